"""Readable names of the tasks, for lists that people choose from; a prompt book may have tasks that are not here."""

from collections.abc import Iterable

TITLES: dict[str, str] = {
    "asr": "Speech: write down the words",
    "asr_zh": "Speech: write down Chinese words",
    "asr_de": "Speech: write down German words",
    "fluent_speech_audio": "Speech: write clean sentences",
    "keywords": "Speech: find the keywords",
    "speech_query": "Speech: answer the spoken question",
    "slot_filling": "Speech: answer about a detail",
    "phone_recognition": "Speech: write the phonemes",
    "translation_ec": "Translation: English to Chinese",
    "translation_en2ja": "Translation: English to Japanese",
    "translation_en2de": "Translation: English to German",
    "emotion_recognition": "Voices: name the emotion",
    "gender_QA": "Voices: answer about the speaker",
    "gender_recognition": "Voices: a man or a woman",
    "speaker_verification": "Voices: one speaker or two",
    "speech_separation": "Voices: separate people talking at once",
    "speaker_diarization_asr": "Voices: write down who says what",
    "audiocaption_v2": "Sound: describe what is heard",
    "audiocaption": "Sound: describe the audio",
    "audio_speech_description": "Sound: describe sounds and speech",
    "speech_audio_query": "Sound: answer the spoken question about it",
    "speech_audio_coreasoning": "Sound: reason over speech and sounds",
    "audio_story_telling": "Sound: tell a story",
    "music_description": "Music: describe it",
    "lyrics_recognition": "Music: write down the lyrics",
    "QA": "Question: answer about the clip",
    "inference_QA": "Question: think about the clip, then answer",
}


def title_of(task: str) -> str:
    """Name a task for people: ("asr") -> "Speech: write down the words", an unknown one by its own name."""
    return TITLES.get(task, task.replace("_", " "))


def in_reading_order(tasks: Iterable[str]) -> list[str]:
    """Sort tasks as they are listed here, unknown ones last and by name."""
    places = {task: place for place, task in enumerate(TITLES)}
    return sorted(tasks, key=lambda task: (places.get(task, len(places)), task))
