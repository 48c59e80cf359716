"""Broken .csg groups, and groups that point to wrong files."""

from __future__ import annotations

from valid_files import GROUP, group, npy, part, records

from damaged.case import case


def changed_group(folder, old, new):
    assert old in GROUP
    return [group(folder / "J7", GROUP.replace(old, new))]


@case
def csg_empty(folder):
    return [group(folder / "J7", "")]


@case
def csg_not_yaml(folder):
    return changed_group(folder, "results:", "results: [}")


@case
def csg_not_utf8(folder):
    return changed_group(folder, "All particles", "All \udcff")


@case
def csg_of_deep_brackets(folder):
    return [group(folder / "J7", "[" * 5_000)]


@case
def csg_too_long(folder):
    return [group(folder / "J7", GROUP + "# more\n" * 50_000)]


@case
def csg_without_results(folder):
    return changed_group(folder, "results:", "outcomes:")


@case
def csg_result_without_a_file(folder):
    return changed_group(folder, "metafile: '>J7_particles.cs'", "file: '>J7_particles.cs'")


@case
def csg_result_named_by_an_escape(folder):
    return changed_group(folder, "  blob:\n    metafile", '  "\\e[2J":\n    file')


@case
def csg_result_with_a_number_as_file(folder):
    return changed_group(folder, "'>J7_particles.cs'", "7")


@case
def csg_runs_code(folder):
    return changed_group(folder, "'>J7_particles.cs'", "!!python/object/apply:os.system ['true']")


@case
def csg_climbs_out(folder):
    (folder / "secret.cs").write_bytes(npy(records()))
    return changed_group(folder, ">J7_particles.cs", ">../secret.cs")


@case
def csg_climbs_out_and_back(folder):
    return changed_group(folder, ">J7_particles.cs", ">../../in/secret.cs")


@case
def csg_absolute(folder):
    return changed_group(folder, ">J7_particles.cs", "/etc/passwd")


@case
def csg_link_out(folder):
    (folder / "secret.cs").write_bytes(npy(records()))
    arguments = changed_group(folder, ">J7_particles.cs", ">link.cs")
    (folder / "J7" / "link.cs").symlink_to(folder / "secret.cs")
    return arguments


@case
def csg_link_to_a_folder_outside(folder):
    (folder / "secret").mkdir()
    arguments = changed_group(folder, ">J7_particles.cs", ">link/J7_particles.cs")
    (folder / "J7" / "link").symlink_to(folder / "secret")
    return arguments


@case
def csg_points_to_a_link_to_itself(folder):
    arguments = changed_group(folder, ">J7_particles.cs", ">link.cs")
    (folder / "J7" / "link.cs").symlink_to("link.cs")
    return arguments


@case
def csg_points_to_itself(folder):
    return changed_group(folder, ">J7_particles.cs", ">J7_particles.csg")


@case
def csg_points_to_a_folder(folder):
    return changed_group(folder, ">J7_particles.cs", ">.")


@case
def csg_points_to_nothing(folder):
    return changed_group(folder, ">J7_particles.cs", ">")


@case
def csg_points_to_a_name_with_a_newline(folder):
    return changed_group(folder, "'>J7_particles.cs'", '">J7\\n.cs"')


@case
def csg_points_to_a_missing_file(folder):
    return changed_group(folder, ">J7_particles.cs", ">J8_particles.cs")


@case
def csg_points_to_a_name_that_is_too_long(folder):
    return changed_group(folder, ">J7_particles.cs", ">" + "x" * 300)


@case
def csg_file_damaged(folder):
    return [group(folder / "J7", main=npy(part(records(), "uid", "pick_stats"))[:-1])]


@case
def csg_file_without_uid(folder):
    return [group(folder / "J7", passthrough=npy(part(records(), "location")))]


@case
def csg_files_of_different_lengths(folder):
    return [group(folder / "J7", passthrough=npy(part(records(5), "uid", "location")))]


@case
def csg_files_of_other_particles(folder):
    other = part(records(uid=[100, 101, 102, 103, 104, 999]), "uid", "location")
    return [group(folder / "J7", passthrough=npy(other))]
