"""What a file is that was taken for another one, and how to get the right one.

In: the bytes or the text of a file that a reader refuses. Out: a clause for its message. Slips that are usual where
these files come from: Excel on Korean Windows writes CP949; annotations and submissions lie beside each other.
This file is the same in both programs.
"""


def not_utf8_cure(raw: bytes) -> str:
    """How bytes that are not UTF-8 become so; the encoding of Korean Windows is known by its syllables."""
    try:
        korean = any("\uac00" <= character <= "\ud7a3" for character in raw.decode("cp949"))
    except UnicodeDecodeError:
        korean = False
    if korean:
        return 'it reads as CP949: save the file as UTF-8 (Excel: "CSV UTF-8"; Python: encoding="utf-8")'
    return "save the file as UTF-8"


def not_json_cure(text: str) -> str:
    """What to do about a text that is no JSON: a sentence where it looks like CSV, "" otherwise.

    Example:
        "testset_id,path\\n..." -> "; this is CSV, ..."
    """
    first = text.lstrip().partition("\n")[0]
    if first[:1] in ("", "{", "[") or not any(separator in first for separator in ",;\t"):
        return ""
    return (
        '; this looks like CSV, and an annotation is JSON: {"annotation": [{"testset_id": ..., "path": ..., "task": '
        '..., "text": ...}, ...]}. From a table: pandas.read_csv(FILE).to_json(NEW_FILE, orient="records")'
    )
