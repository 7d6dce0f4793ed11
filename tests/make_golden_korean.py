"""Makes tests/golden_korean.json: Korean pairs with their errors as two other programs than the evaluator count them.

Each sentence below is changed in six ways that are known: words joined, a word split, a syllable replaced, a word left
out, a word added, and written otherwise (decomposed, punctuation, capitals). Characters and words are counted by
Kaldi's edit distance and by the table of the textbook; the errors of sWER by Kaldi's alignment, and by what was done to
the sentence. A pair on which two of them disagree is drawn anew, so that what is kept is beyond doubt.

    python tests/make_golden_korean.py
"""

import json
import random
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

from kaldialign import align, edit_distance

GOLDEN = Path(__file__).with_name("golden_korean.json")
_TEXT = """
오늘 아침에는 비가 조금 내렸습니다
버스가 늦게 와서 회의에 지각했어요
우리 집 고양이는 하루 종일 잠만 잔다
내일 점심은 김치찌개를 먹을까 합니다
도서관 삼 층에 조용한 자리가 있어요
그 영화는 끝까지 보기가 쉽지 않았다
할머니께서 만들어 주신 떡이 참 맛있었다
지하철역까지 걸어서 십 분쯤 걸립니다
문을 열자 찬 바람이 방 안으로 들어왔다
동생은 어제부터 자전거를 배우고 있다
주말에는 가족과 함께 산에 오르려고 해요
전화를 받지 않아서 문자를 남겼습니다
새로 산 신발이 발에 잘 맞지 않는다
선생님은 칠판에 커다란 원을 그리셨다
강가에 앉아 물이 흐르는 소리를 들었다
아이들이 운동장에서 공을 차고 놀아요
커피 두 잔과 물 한 병을 주문했습니다
기차는 정확히 아홉 시에 출발합니다
어젯밤 꿈에서 나는 하늘을 날고 있었다
이 길로 곧장 가면 시장이 나옵니다
겨울이 지나면 따뜻한 봄이 찾아온다
약을 먹고 푹 쉬었더니 한결 나아졌어요
창밖을 보니 눈이 소복이 쌓여 있었다
그녀는 조용히 웃으며 고개를 끄덕였다
시험이 끝나면 바다를 보러 가고 싶어
냉장고에 남은 반찬이 하나도 없었다
오래된 사진을 보며 옛날 이야기를 나눴다
컴퓨터를 껐다가 다시 켜 보세요
우산을 두고 나와서 옷이 다 젖었어요
마을 어귀에 커다란 느티나무가 서 있다
이번 달에는 책을 네 권이나 읽었습니다
배가 고파서 라면을 끓여 먹기로 했다
공원을 한 바퀴 돌고 집으로 돌아왔어요
친구에게서 반가운 편지가 도착했습니다
문제를 천천히 읽고 답을 골라 주세요
밤하늘에 별이 셀 수 없이 많았다
아버지는 새벽마다 신문을 읽으신다
김 과장님은 지금 자리에 안 계십니다
음악을 크게 틀고 방을 깨끗이 치웠다
표를 사려면 저쪽 창구로 가셔야 해요
비행기가 구름 위로 천천히 올라갔다
이 식당은 점심때마다 사람이 붐빕니다
감기에 걸려서 목소리가 잘 안 나와요
할 일이 많지만 서두르지 않기로 했다
강아지가 꼬리를 흔들며 마당을 뛰어다닌다
회의 자료는 어제 이메일로 보내 드렸습니다
노을이 지는 들판을 한참 바라보았다
빵 굽는 냄새가 골목까지 퍼져 나갔다
다음 정류장에서 내려서 길을 건너세요
열쇠를 어디에 두었는지 기억나지 않는다
손님이 오시기 전에 거실을 정리하자
그 소식을 듣고 모두가 크게 기뻐했다
병원은 토요일에도 오전 진료를 합니다
나는 매일 저녁 일기를 쓰고 잠든다
모르는 단어는 사전에서 찾아보았어요
축구 경기가 무승부로 끝나 아쉬웠다
농부들은 이른 아침부터 모를 심었다
신호등이 초록색으로 바뀌면 건너가자
엘리베이터가 고장 나서 계단으로 올라갔다
작은 배 한 척이 섬을 향해 떠났다
따뜻한 차를 마시니 마음이 편안해졌다
아기가 처음으로 혼자 걸음을 떼었어요
숙제를 먼저 하고 나서 게임을 하렴
가을이면 은행잎이 거리를 노랗게 덮는다
"""
SENTENCES = _TEXT.strip().split("\n")
ADDED = ["정말", "그런데", "아마", "역시", "글쎄요"]

Change = Callable[[list[str], random.Random], tuple[str, int]]
"""The words of a sentence -> what was heard, and how many words it spoils."""


def joined(words: list[str], draw: random.Random) -> tuple[str, int]:
    """Leave out one space."""
    place = draw.randrange(len(words) - 1)
    return " ".join([*words[:place], words[place] + words[place + 1], *words[place + 2 :]]), 0


def split(words: list[str], draw: random.Random) -> tuple[str, int]:
    """Put a space into a word."""
    place = draw.choice([number for number, word in enumerate(words) if len(word) > 1])
    cut = draw.randrange(1, len(words[place]))
    return " ".join([*words[:place], words[place][:cut], words[place][cut:], *words[place + 1 :]]), 0


def replaced(words: list[str], draw: random.Random) -> tuple[str, int]:
    """Hear another syllable, and leave out a space elsewhere in half of the cases."""
    place = draw.randrange(len(words))
    spot = draw.randrange(len(words[place]))
    other = chr(0xAC00 + (ord(words[place][spot]) - 0xAC00 + draw.choice([28, 588, 1])) % 11172)
    heard = [*words[:place], words[place][:spot] + other + words[place][spot + 1 :], *words[place + 1 :]]
    return (joined(heard, draw)[0] if draw.random() < 0.5 else " ".join(heard)), 1


def missed(words: list[str], draw: random.Random) -> tuple[str, int]:
    """Leave out a word."""
    place = draw.randrange(len(words))
    return " ".join([*words[:place], *words[place + 1 :]]), 1


def added(words: list[str], draw: random.Random) -> tuple[str, int]:
    """Put in a word."""
    place = draw.randrange(len(words) + 1)
    return " ".join([*words[:place], draw.choice(ADDED), *words[place:]]), 1


def dressed(words: list[str], draw: random.Random) -> tuple[str, int]:
    """Write the same otherwise: jamo, punctuation, noise in brackets."""
    text = draw.choice(['"{}."', "{}...", "{}?!", "[잡음] {}", "{} (웃음)"]).format(" ".join(words))
    return unicodedata.normalize("NFD", text), 0


CHANGES: Sequence[Change] = (joined, split, replaced, missed, added, dressed)


def plain(text: str) -> str:
    """A normaliser of its own, enough for these sentences."""
    return " ".join(re.findall(r"\w+", re.sub(r"\[.*?\]|\(.*?\)", "", unicodedata.normalize("NFC", text))))


def table_distance(first: Sequence[str], second: Sequence[str]) -> int:
    """The edit distance, row by row of the textbook's table."""
    row = list(range(len(second) + 1))
    for number, one in enumerate(first, start=1):
        above, row = row, [number]
        for place, other in enumerate(second, start=1):
            row.append(min(above[place] + 1, row[-1] + 1, above[place - 1] + (one != other)))
    return row[-1]


def respaced_by_kaldi(reference: str, hypothesis: str) -> list[str]:
    """The hypothesis's words, spaced as the reference where Kaldi aligns their characters."""
    gap = "*"
    starts = spaces(reference), spaces(hypothesis)
    told: list[tuple[int | None, bool]] = []
    place = own = 0
    passed = False
    for left, right in align(reference.replace(" ", ""), hypothesis.replace(" ", ""), gap):
        if left != gap:
            passed = passed or place in starts[0]
            place += 1
        if right != gap:
            told.append((place - 1 if left != gap else None, passed if left != gap else own in starts[1]))
            passed = passed and left == gap
            own += 1
    words: list[str] = []
    before: int | None = None
    for number, (origin, starts_word) in enumerate(told):
        character = hypothesis.replace(" ", "")[number]
        keeps_own = origin is None or before is None
        if not words or (number in starts[1] if keeps_own else starts_word):
            words.append(character)
        else:
            words[-1] += character
        before = origin
    return words


def spaces(text: str) -> set[int]:
    """Before which characters, spaces not counted, a word starts."""
    found, place = set(), 0
    for word in text.split():
        found.add(place)
        place += len(word)
    return found


def counted(reference: str, hypothesis: str, spoilt: int) -> dict[str, list[int]] | None:
    """Edits and units of the reference for each protocol; None where two counts disagree."""
    left, right = plain(reference), plain(hypothesis)
    pairs = {
        "ko-cer": (list(left.replace(" ", "")), list(right.replace(" ", ""))),
        "ko-cer-spaced": (list(left), list(right)),
        "ko-wer": (left.split(), right.split()),
        "ko-swer": (left.split(), respaced_by_kaldi(left, right)),
    }
    found: dict[str, list[int]] = {}
    for name, pair in pairs.items():
        distance = table_distance(*pair)
        if edit_distance(*pair)["total"] != distance or (name == "ko-swer" and distance != spoilt):
            return None
        found[name] = [distance, len(pair[0])]
    return found


def make() -> list[dict[str, object]]:
    """All pairs, always the same."""
    draw = random.Random(20)
    items: list[dict[str, object]] = []
    for sentence in SENTENCES:
        for change in CHANGES:
            for _ in range(50):
                heard, spoilt = change(sentence.split(), draw)
                errors = counted(sentence, heard, spoilt)
                if errors is not None:
                    items.append({"reference": sentence, "hypothesis": heard, "change": change.__name__, **errors})
                    break
    return items


if __name__ == "__main__":
    made = make()
    rows = ",\n".join(json.dumps(item, ensure_ascii=False) for item in made)
    GOLDEN.write_text(f"[\n{rows}\n]\n", encoding="utf-8")
    print(f"{len(made)} pairs of {len(SENTENCES)} sentences: {GOLDEN}")
