-- Queries over many runs, for DuckDB. The views kept, rejected and duplicates are tables that
-- `dask-dedup publish` wrote. Each run was published with --tag session=... The page
-- docs/guides/lake.md shows how to open the tables. examples/lake.py builds such tables and runs
-- these queries.

-- Which share of the picks of each picker was rejected in each session?
create or replace temp view particles as
    select session, input_name as picker, false as is_rejected from kept
    union all
    select session, input_name, true from rejected;
select session, picker, count(*) as picks, round(100 * avg(is_rejected::int), 1) as percent_rejected
from particles
group by session, picker
order by session, picker;

-- Do the scores drift over the week?
select session,
    round(median("pick_stats/ncc_score"), 3) as median_score,
    round(median("pick_stats/ncc_score") - first_value(median("pick_stats/ncc_score")) over (order by session), 3)
        as since_the_first
from kept
where input_name = 'template'
group by session
order by session;

-- Which micrographs have many particles of the same picker within 2 A of each other?
select session, micrograph, input_name as picker, count(*) as pairs_within_2A
from duplicates
where input = winner_input and distance_A < 2
group by session, micrograph, picker
having count(*) > 20
order by pairs_within_2A desc;

-- How many particles did both pickers find, and how far apart are the two picks of a particle?
select session, count(*) as found_twice, round(median(distance_A), 2) as median_distance_A
from duplicates
where input <> winner_input
group by session
order by session;

-- Which runs are these rows from?
select run, session, count(*) as particles, count(distinct "location/micrograph_uid") as micrographs
from kept
group by run, session
order by session;
