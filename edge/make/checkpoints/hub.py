"""Models of the Hugging Face Hub, `hf:org/name` or `hf:org/name@revision` (extra `hub`): folders of safetensors.

Files are downloaded to the cache of huggingface_hub and stay there; where the Hub does not answer, what is cached is
taken. The commit that a revision stands for goes into the card. HF_HOME, HF_HUB_OFFLINE, HF_ENDPOINT and a token work
as they do with every program that uses the Hub.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from edge.make.checkpoints import HUB, Checkpoint, safetensors
from edge.make.formats import tensor_files
from firmware_tools.errors import BadFile, MissingTool, UserError

SUFFIXES = ()
# of weights the names that transformers gives: beside them some models have the same in another form
PATTERNS = ["model.safetensors", "model-*.safetensors", tensor_files.INDEX, "README.md"]
PATTERNS += [f"{name}.json" for name in ("config", "generation_config", "tokenizer", "tokenizer_config")]
PATTERNS += ["special_tokens_map.json", "chat_template.jinja"]
NAME = re.compile(r"[\w.-]{1,96}(?:/[\w.-]{1,96})?", re.ASCII)
REVISION = re.compile(r"[\w./-]{1,200}", re.ASCII)


def recognises(path: Path) -> bool:
    """Whether the source is on the Hub, by its prefix."""
    return path.as_posix().startswith(HUB)


def load(path: Path, tokenizer: Path | None = None) -> Checkpoint:
    """Downloads what is not cached, and reads it."""
    name, _, revision = path.as_posix().removeprefix(HUB).partition("@")
    if not NAME.fullmatch(name) or ".." in name or revision and (not REVISION.fullmatch(revision) or ".." in revision):
        raise UserError(
            f"{path.as_posix()!a} is not the name of a model on the Hub", "hf:org/name or hf:org/name@revision"
        )
    folder = _snapshot(name, revision or None)
    checkpoint = safetensors.load(folder, tokenizer)
    kept = checkpoint.card["source"].partition("; ")[2]  # what was left out
    source = f"{HUB}{name}@{folder.name}" + (f"; {kept}" if kept else "")
    card = {**checkpoint.card, "name": name.rpartition("/")[2], "source": source}
    return replace(checkpoint, card=card)


def _snapshot(name: str, revision: str | None) -> Path:
    """The folder of one commit, which its name is."""
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError as error:
        raise MissingTool(f"{HUB} needs the package huggingface_hub", "pip install 'edge-tinyml[hub]'") from error
    where = f"{HUB}{name}" + (f"@{revision}" if revision else "")
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=PATTERNS))
    except errors.GatedRepoError as error:
        hint = f"accept its terms on the page of {name}, then log in: hf auth login"
        raise UserError(f"{where} is only for those who accepted its terms", hint) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{where} is not there: {name} has no such revision", "a branch, tag or commit") from error
    except errors.RepositoryNotFoundError as error:
        hint = "look at the name again; a private model needs a login: hf auth login"
        raise UserError(f"{where} is not there, or is private", hint) from error
    except errors.LocalEntryNotFoundError as error:
        raise UserError(
            f"{where} is not in the cache, and the Hub does not answer (or HF_HUB_OFFLINE is set)",
            "connect once, or download its files elsewhere and give their folder",
        ) from error
    except Exception as error:  # of whichever HTTP library is below; versions differ
        why = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"cannot download {where}: {why}", "try again later") from error
    if not (folder / "config.json").is_file():
        raise BadFile(f"{where} has no config.json", "it is no model that transformers saved")
    if not any(folder.glob("model*.safetensors")):
        hint = f"where it has pickles: from transformers import AutoModelForCausalLM as M; M.from_pretrained({name!r})"
        hint += ".save_pretrained('NEW', safe_serialization=True), and the same with AutoTokenizer"
        raise BadFile(f"{where} has no safetensors", hint)
    return folder
