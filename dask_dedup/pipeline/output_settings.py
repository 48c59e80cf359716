"""Output settings of a run: format, compression and partition columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class OutputSettings:
    """Format, compression and partition columns of the files of a result.

    Attributes
    ----------
    output_format : str
        native, parquet or one of `conversion.CONVERSIONS`.
    compression : str
        One of `encoding.COMPRESSIONS`.
    partition_by : tuple of str
        Columns for the partition folders of Parquet files. If empty, the partition columns of the inputs are used.
    """

    output_format: str = "native"
    compression: str = "auto"
    partition_by: tuple[str, ...] = ()

    @classmethod
    def of(cls, output_format: str, compression: str, partition_by: Sequence[str] | str) -> Self:
        """Return the settings for parameters of `run`."""
        columns = (partition_by,) if isinstance(partition_by, str) else tuple(partition_by)
        return cls(output_format, compression, columns)

    @classmethod
    def recorded(cls, manifest: Mapping[str, Any]) -> Self:
        """Return the settings of a finished run."""
        columns = manifest.get("partition_by", ())
        return cls.of(manifest["output_format"], manifest["compression"], columns)
