"""The process that runs SPICE's Java classes; `scoring/spice.py` starts it, nobody else should.

One JSON object a line: a set-up and then any number of requests come in on standard input; progress, results
or an error go out on standard output. It ends when its input ends or its parent is gone, whatever Java is
doing at that moment. A process can start one JVM in its life, which is why this is a process of its own.
"""

import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

import jpype
import jpype.config

# The JVM leaves signals alone, ends itself when memory is short (its threads would hang otherwise), and keeps
# its heap small: 2 GB are enough for captions of 100 words. It stops at its first compiler: the second one
# costs 10 s of a set of 300 captions and wins them back after some 2000.
_JVM_OPTIONS = (
    "-Xrs",
    "-Xmx2g",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-Duser.language=en",
    "-Duser.country=US",
    "-Dfile.encoding=UTF-8",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)
# So few that progress is seen although long captions take long.
BATCH_WORDS = 320
_PARENT_CHECK_SECONDS = 1.0

Tuples = Sequence[Sequence[str]]
"""What SPICE reads from a caption: objects, attributes and relations, of one, two and three words."""


def main(parent: int) -> None:
    """Serve requests until the input ends or the process `parent` does."""
    output = _private_output()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    for watch in (
        threading.Thread(target=_read, args=(lines,)),
        threading.Thread(target=_watch_parent, args=(parent,)),
    ):
        watch.daemon = True
        watch.start()
    try:
        setup = json.loads(lines.get())
        scorer = SpiceScorer(setup["jvm"], setup["class_path"], setup["threads"])
        _write(output, {"ready": True})
        while True:
            request = json.loads(lines.get())
            for message in scorer.score(request["candidates"], request["references"], request["known"]):
                _write(output, message)
    except (jpype.JException, jpype.JVMNotFoundException, jpype.JVMNotSupportedException, OSError) as error:
        # What can go wrong in Java's world is told in its words; a bug shows its traceback in the log.
        _write(output, {"error": f"{type(error).__name__}: {error}"})


def _private_output() -> TextIO:
    """Keep standard output for messages: what else is printed there, by Java too, goes to standard error."""
    messages = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(messages, "w", encoding="utf-8")


def _write(output: TextIO, message: dict[str, Any]) -> None:
    output.write(json.dumps(message) + "\n")
    output.flush()


def _read(lines: "queue.SimpleQueue[str]") -> None:
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)


def _watch_parent(parent: int) -> None:
    """End with the parent even if another process, say a fork of it, keeps this one's input open.

    Args:
        parent: the process that started this one; it may be gone before this line is reached.
    """
    if os.name != "posix":
        return  # there are no forks, and no signal 0
    adopted_by = os.getppid()
    while os.getppid() == adopted_by:
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            break
        time.sleep(_PARENT_CHECK_SECONDS)
    os._exit(0)


class SpiceScorer:
    """SPICE 1.0 called class by class: no script engine, no disk cache, no entity recogniser.

    Args:
        jvm: the JVM library.
        class_path: SPICE's jars and CoreNLP's two.
        threads: threads of the parser.
    """

    def __init__(self, jvm: str, class_path: Sequence[str], threads: int) -> None:
        jpype.config.destroy_jvm = False  # Java's idle threads would keep this process from ending
        jpype.startJVM(*_JVM_OPTIONS, jvmpath=jvm, classpath=list(class_path), convertStrings=False)
        self._parser = jpype.JClass("edu.anu.spice.SpiceParser")(None, threads, True)
        self._set_pipeline(threads)
        # The step between text and graph is protected; it alone lets each distinct caption be parsed once.
        self._tuples_of = _method(self._parser, "generateTuples", jpype.JClass("java.util.List"))
        self._synonyms = _field(self._parser, "synonyms").get(self._parser)
        self._warm_up()

    def _set_pipeline(self, threads: int) -> None:
        """Give SPICE the pipeline it would make, less named entities: same tuples, 16 MB instead of 385."""
        properties = jpype.JClass("java.util.Properties")()
        for key, value in (
            ("annotators", "tokenize,ssplit,parse,lemma"),
            ("depparse.extradependencies", "MAXIMAL"),
            ("threads", str(threads)),
        ):
            properties.setProperty(key, value)
        pipeline = jpype.JClass("edu.stanford.nlp.pipeline.StanfordCoreNLP")(properties)
        annotator = _field(self._parser, "annotator").get(self._parser)
        _field(annotator, "pipeline").set(annotator, pipeline)

    def _warm_up(self) -> None:
        """Load now what the first caption would load (3 s), while the captions are being tokenised elsewhere."""
        self._tuples_of.invoke(self._parser, _array_list(["a dog barks"]))

    def score(
        self, candidates: Sequence[str], references: Sequence[Sequence[str]], known: Mapping[str, Tuples]
    ) -> Iterator[dict[str, Any]]:
        """Score a set.

        Args:
            candidates: N captions.
            references: N lists of captions.
            known: the tuples of captions that were parsed before.

        Yields:
            dict: {"progress": [captions parsed, of how many], "parsed": {caption: its tuples}} after every batch; at
                last {"result": [...]} with one object a row: "score", "counts" (tuples of both sides, of the candidate
                alone, of the references alone).
        """
        distinct = list(dict.fromkeys([*candidates, *(text for row in references for text in row)]))
        tuples = jpype.JClass("java.util.HashMap")()
        for text in distinct:
            if text in known:
                tuples.put(text, _array_list([_array_list(words) for words in known[text]]))
        new = [text for text in distinct if text not in known]
        done = 0
        for batch in _batches(new, BATCH_WORDS):
            parsed = self._tuples_of.invoke(self._parser, _array_list(batch))
            tuples.putAll(parsed)
            done += len(batch)
            told = {text: [[str(word) for word in words] for words in parsed.get(text)] for text in batch}
            yield {"progress": [done, len(new)], "parsed": told}
        stats = jpype.JClass("edu.anu.spice.SpiceStats")(jpype.JClass("java.util.HashMap")(), True)
        for index, (candidate, row) in enumerate(zip(candidates, references, strict=True)):
            graphs = (self._graph(tuples, [candidate]), self._graph(tuples, row))
            stats.score(jpype.JClass("java.lang.Integer")(index), *graphs, True)
        yield {"result": [_row(item) for item in json.loads(str(stats.toJSONString()))]}

    def _graph(self, tuples: Any, captions: Sequence[str]) -> Any:
        graph = jpype.JClass("edu.anu.spice.SceneGraph")(self._synonyms, True)
        for caption in captions:
            for proposed in tuples.get(caption):
                graph.addTuple(proposed)
        return graph


def _row(item: dict[str, Any]) -> dict[str, Any]:
    score = item["scores"]["All"]
    return {"score": score["f"], "counts": [score["tp"], score["fp"], score["fn"]]}


def _batches(captions: Sequence[str], words: int) -> Iterator[list[str]]:
    """Batches of about `words` words."""
    batch: list[str] = []
    size = 0
    for caption in captions:
        batch.append(caption)
        size += len(caption.split())
        if size >= words:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _array_list(items: Sequence[Any]) -> Any:
    array = jpype.JClass("java.util.ArrayList")()
    for item in items:
        array.add(item)
    return array


def _field(target: Any, name: str) -> Any:
    field = target.getClass().getDeclaredField(name)
    field.setAccessible(True)
    return field


def _method(target: Any, name: str, *types: Any) -> Any:
    method = target.getClass().getDeclaredMethod(name, *types)
    method.setAccessible(True)
    return method


if __name__ == "__main__":
    main(parent=int(sys.argv[1]))
