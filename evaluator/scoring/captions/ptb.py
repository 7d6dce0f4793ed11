"""Penn Treebank tokens as caption metrics take them: lines in, their tokens joined by one space out, in one Java call.

CoreNLP 3.4.1's PTBTokenizer, lower case; then the punctuation tokens that the field leaves out are dropped.
"""

from collections.abc import Sequence
from pathlib import Path

from evaluator.scoring.captions.package_files import pycocoevalcap_file
from evaluator.scoring.java import Java, JavaProcesses

JAR = "tokenizer/stanford-corenlp-3.4.1.jar"
PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)


def ptb_tokens(lines: Sequence[str], java: Java, processes: JavaProcesses) -> list[str]:
    """Tokenise lines, which are one text to the tokeniser: a line's tokens may depend on the lines beside it.

    Args:
        lines: at least one, without line ends in them.
        java: runs the tokeniser.
        processes: starts it.

    Raises:
        RuntimeError: the tokeniser failed, or gave another number of lines.
    """
    command = [
        str(java.executable),
        "-cp",
        _jar(),
        "edu.stanford.nlp.process.PTBTokenizer",
        "-preserveLines",
        "-lowerCase",
    ]
    process = processes.Popen(command, stdin=processes.PIPE, stdout=processes.PIPE, stderr=processes.DEVNULL)
    output, _ = process.communicate("\n".join(lines).encode())
    found = output.decode().split("\n")
    if process.returncode or len(found) != len(lines):
        told = f"{len(found)} lines for {len(lines)}, exit status {process.returncode}"
        raise RuntimeError(f"the PTB tokeniser gave {told}")
    return [" ".join(token for token in line.rstrip().split(" ") if token not in PUNCTUATION) for line in found]


def _jar() -> str:
    path: Path = pycocoevalcap_file(JAR)
    return str(path)
