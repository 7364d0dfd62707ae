"""Files of records, JSON Lines and Parquet, of which one field or column is text."""

import json
from collections.abc import Collection, Iterator
from typing import Any, BinaryIO, NoReturn

from common.rules import nearest, shown
from data.texts import SEPARATOR
from data.userfiles import OnBytes, UserFile, kind, pyarrow_for

RECORDS = (".jsonl", ".ndjson", ".parquet")
TEXT_KEY = "text"  # what most data sets call it
LONGEST_LINE = 1 << 28  # bytes of a record, which is in memory as a whole
ROWS = 256  # of a Parquet file that are in memory at a time
LINES = 256  # after so many it is told how far the file has been read


class RecordFile(UserFile):
    """A file of many documents: the texts of its records."""

    def documents(self, key: str, on_bytes: OnBytes) -> Iterator[str]:
        """The texts of the field `key` of all records, in order; what is empty or null is left out.

        A record of JSON Lines may also be a text by itself. `on_bytes` is told of the bytes read.

        Raises:
            ValueError: a record that holds no such text, by its line or row; or a file that cannot
                be read, is damaged or has changed.
        """
        records = self._rows if self._is_table else self._lines
        with self.opened() as (raw, file):
            before = 0
            for where, value in records(key, file):
                if where % LINES == 0:
                    on_bytes(raw.tell() - before)
                    before = raw.tell()
                if problem := text_problem(value):
                    raise ValueError(f"{self._at(where)}, field {key}, {problem}")
                if value:
                    yield value
            on_bytes(self.stamp.size - before)

    @property
    def _is_table(self) -> bool:
        return kind(self.path) == ".parquet"

    def _at(self, number: int) -> str:
        return f"data.path={self.path}: {'row' if self._is_table else 'line'} {number}"

    def _lines(self, key: str, file: BinaryIO) -> Iterator[tuple[int, Any]]:
        """The number of each line that is not blank, and the value of its field."""
        number = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise ValueError(
                    f"{self._at(number)} is longer than {LONGEST_LINE:,} bytes; "
                    "each line must be one record, and a long text a file of its own (.txt)"
                )
            if line.strip():
                yield number, self._field(self._parsed(line, number), key, number)

    def _parsed(self, line: bytes, number: int) -> Any:
        try:
            return json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError as error:
            reason = f"not UTF-8 text (byte 0x{line[error.start]:02x} at offset {error.start})"
        except json.JSONDecodeError as error:
            reason = f"broken JSON ({error.msg}, column {error.colno})"
        except (ValueError, RecursionError) as error:  # numbers and brackets without end
            reason = f"broken JSON ({str(error).splitlines()[0]})"
        raise ValueError(
            f"{self._at(number)} is {reason};\neach line must be one whole JSON object, e.g. "
            '{"text": "…"}'
        )

    def _field(self, record: Any, key: str, number: int) -> Any:
        if isinstance(record, str):
            return record
        if not isinstance(record, dict):
            raise ValueError(
                f"{self._at(number)} is {_a(record)}; each line must be one JSON object or text, "
                'e.g. {"text": "…"}'
            )
        if key not in record:
            texts = [name for name, value in record.items() if isinstance(value, str)]
            no_such_field(key, record, texts, f"line {number} of {self.path}")
        return record[key]

    def _rows(self, key: str, file: BinaryIO) -> Iterator[tuple[int, Any]]:
        """The number of each row, from 1, and its value in the column."""
        pyarrow = pyarrow_for(self.path)
        try:
            # Pages as they come, and not a column of a whole row group, which may be all there is
            table = pyarrow.parquet.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)
            check_column(table.schema_arrow, key, str(self.path))
            number = 0
            for batch in table.iter_batches(batch_size=ROWS, columns=[key]):
                for value in batch.column(0).to_pylist():
                    number += 1
                    yield number, value
        except pyarrow.ArrowException as error:
            raise ValueError(
                f"data.path={self.path}: not a whole Parquet file "
                f"({str(error).splitlines()[0]}); take a whole copy of the file"
            ) from error


def check_column(schema: Any, key: str, where: str) -> None:
    """ValueError if an Arrow schema has no column `key`, or one that is not text."""
    types = {field.name: field.type for field in schema}
    texts = [name for name, type_ in types.items() if _is_text(type_)]
    if key not in types:
        no_such_field(key, types, texts, where)
    if key not in texts:
        raise ValueError(
            f"data.text_key={key}: must be a column of text, but in {where} it is "
            f"{shown(types[key])}; {_try(key, texts)}"
        )


def no_such_field(key: str, names: Collection[str], texts: list[str], where: str) -> NoReturn:
    """Raise the ValueError of a record with fields `names`, `texts` of which are text."""
    there = ", ".join(names) or "none"
    raise ValueError(
        f"data.text_key={key}: no such field in {where}, whose fields are {shown(there)}; "
        f"{_try(key, texts)}"
    )


def text_problem(value: Any) -> str | None:
    """What is wrong with a value as a document, to follow its name; None if nothing is."""
    if value is None:
        return None
    if not isinstance(value, str):
        return f"is {_a(value)}; must be text (data.text_key= says which field is)"
    if SEPARATOR in value:
        return "holds the character NUL; a text has none, so take it out"
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return "holds half of a surrogate pair; the text must be valid Unicode"
    return None


def _is_text(type_: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(type_):
        return _is_text(type_.value_type)
    return bool(types.is_string(type_) or types.is_large_string(type_))


def _try(key: str, texts: list[str]) -> str:
    if not texts:
        return "none of them is text"
    return f"try data.text_key={nearest(key, texts) or texts[0]}"


def _a(value: Any) -> str:
    """What a JSON value is, in words."""
    names = {list: "a list", dict: "an object", bool: "true or false", int: "a number"}
    return names.get(type(value), "a number" if isinstance(value, float) else "null")
