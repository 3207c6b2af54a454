"""Everything this package adds to the toolkit, on one page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ming_core import hookimpl
from ming_core.plugins.registry import Registrar

if TYPE_CHECKING:
    import typer


@hookimpl
def ming_register_encoders(register: Registrar) -> None:
    register(
        "whisper",
        "ming_audio.encoder:AudioEncoder",
        modality="audio",
        section="audio_config",
        # Releases leave the type empty or write that of the whole model; the rest of the section
        # says which towers there are.
        spellings=("", "bailingmm"),
        summary="speech by Whisper (Lite 1.5, Flash, nano; with SANM beside it Lite 1.0)",
    )
    register(
        "sanm",
        "ming_audio.encoder:AudioEncoder",
        modality="audio",
        section="audio_config",
        summary="speech by SANM alone (the preview of Lite)",
    )


@hookimpl
def ming_register_options(register: Registrar) -> None:
    register("Hearing", "ming_audio.options:Hearing", summary="the sound of videos, channels")


@hookimpl
def ming_register_presets(register: Registrar) -> None:
    register("nano", "ming_audio:presets/nano", part="audio", summary="hears up to 8 s at once")


@hookimpl
def ming_register_tasks(register: Registrar) -> None:
    summary = "write down what is said in a sound or a video, and when"
    target = "ming_audio.tasks:Transcribe"
    register("transcribe", target, takes=("audio",), gives="text", summary=summary)


@hookimpl
def ming_register_benchmarks(register: Registrar) -> None:
    register(
        "asr",
        "ming_audio.evaluate:Asr",
        data="a folder of LibriSpeech, AISHELL or ContextASR-Bench, unpacked, or metadata.jsonl",
        probe_data="ming_audio:probe",
        summary="error rates of transcripts: WER, CER, NE-WER, NE-FNR",
    )


@hookimpl
def ming_register_commands(app: typer.Typer) -> None:
    from ming_audio import cli

    app.command()(cli.transcribe)
