"""Text ⇄ token ids, on the host; tokenizers travel as tokenizer.json (the format of Hugging Face `tokenizers`).

Two rules hold on host and device alike. Any bytes encode: what is not UTF-8 goes by byte tokens, and the stretches of
text between such bytes are merged each by itself. Text never becomes a special token: a user who types `</s>` gets its
characters; the special tokens around a chat's turns are ids in the card. A tokenizer that the device cannot encode with
(`Vocabulary.reason`) still works here, with U+FFFD for what is not UTF-8.

A tokenizer of SentencePiece's kind puts a dummy space before every text. Decoding takes it away again at the start of a
text; a continuation (what a model generates after a prompt) begins in mid-text and keeps its space. Special tokens
decode to nothing. Control characters pass: stripping them is up to whoever prints.
"""

from __future__ import annotations

import codecs
import json
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from edge import turns
from edge.turns import Turns
from firmware_tools import vocabulary
from firmware_tools.errors import BadFile, UserError

UNKNOWN, BOS, EOS = "<unk>", "<s>", "</s>"
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
FIRST_BYTE = 3  # of llama2.c and of train(): <unk>, <s>, </s>, then the byte tokens
FIRST_PIECE = FIRST_BYTE + 256
LOWEST_SCORE = -1e10  # llama2.c merges nothing that scores no better
NOT_UTF8 = re.compile("[\udc80-\udcff]+")  # as Python's surrogateescape marks it


class Tokenizer:
    """One model's tokenizer.

    json: a tokenizer.json; BadFile where it is damaged. bos_id: put first by prompt(); None where the model has none.
    stop_ids: the ids that end a text, for the caller. before, after: the template around a prompt. turns: of a chat
    model, in the place of that template.
    """

    def __init__(
        self,
        json: bytes,
        bos_id: int | None = None,
        stop_ids: Sequence[int] = (),
        before: str = "",
        after: str = "",
        turns: Turns | None = None,
    ) -> None:
        self.json = json
        self.bos_id = bos_id
        self.stop_ids = tuple(stop_ids)
        self.before, self.after = before, after
        self.turns = turns
        self.vocabulary = vocabulary.read(json)
        own = self.vocabulary.can_encode
        self._encoder = _byte_pair_encoder(self.vocabulary) if own else library_encoder(json)
        self._behind = self._encoder if own else (_encoder_behind(json) or self._encoder)

    @property
    def vocab_size(self) -> int:
        return len(self.vocabulary.pieces)

    def encode(self, text: str | bytes, bos: bool = False, behind: bool = False) -> list[int]:
        """The ids of a text; any bytes encode. bos puts bos_id first, where the model has one. behind: a special token
        is before the text.
        """
        data = _to_bytes(text)
        ids = [self.bos_id] if bos and self.bos_id is not None else []
        if not self.vocabulary.can_encode:
            with _refusals():
                return ids + self._text_ids(data.decode("utf-8", "replace"), behind)
        escaped = (self.vocabulary.prefix + data if data else data).decode("utf-8", "surrogateescape")
        position = 0
        for match in NOT_UTF8.finditer(escaped):
            ids += self._text_ids(escaped[position : match.start()])
            ids += [self.vocabulary.byte_ids[ord(mark) - 0xDC00] for mark in match.group()]
            position = match.end()
        return ids + self._text_ids(escaped[position:])

    def prompt(self, text: str | bytes, system: str | None = None) -> list[int]:
        """The ids a model is given for a prompt: BOS, then the text in its template, of a chat model its first turn."""
        if self.turns is not None:
            parts = self.turns.begin(text, system)
            return self.encode(b"", bos=parts[:1] != [self.bos_id]) + self.joined(parts)
        if system is not None:
            raise UserError("this model has no chat template, and so no place for a system text", "leave out --system")
        return self.encode(_to_bytes(self.before) + _to_bytes(text) + _to_bytes(self.after), bos=True)

    def joined(self, parts: Iterable[int | str | bytes]) -> list[int]:
        """The ids of special tokens and texts; texts side by side are encoded as one."""
        ids: list[int] = []
        text = b""
        for part in parts:
            if isinstance(part, int):
                ids += [*self.encode(text, behind=bool(ids)), part]
                text = b""
            else:
                text += _to_bytes(part)
        return ids + self.encode(text, behind=bool(ids))

    def decode_bytes(self, ids: Iterable[int], continuation: bool = False) -> bytes:
        """The bytes of a text, or of a continuation, which keeps its leading space; unknown ids have none."""
        text = b"".join(self._piece(id) for id in ids)
        return text if continuation else text.removeprefix(self.vocabulary.prefix)

    def decode(self, ids: Iterable[int], continuation: bool = False) -> str:
        """As decode_bytes, with U+FFFD for what is not UTF-8."""
        return self.decode_bytes(ids, continuation).decode("utf-8", "replace")

    def stream(self, continuation: bool = True) -> Stream:
        """Decodes ids as they come, by default those that continue a prompt."""
        return Stream(self, continuation)

    def _piece(self, id: int) -> bytes:
        return self.vocabulary.pieces[id] if 0 <= id < self.vocab_size else b""

    def _text_ids(self, text: str, behind: bool = False) -> list[int]:
        encoder = self._behind if behind else self._encoder
        return list(encoder.encode(text, add_special_tokens=False).ids) if text else []


class Stream:
    """Text from ids, one by one: holds back the bytes of a character until it is whole."""

    def __init__(self, tokenizer: Tokenizer, continuation: bool) -> None:
        self._tokenizer = tokenizer
        self._at_start = not continuation
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, ids: int | Iterable[int]) -> str:
        """The text that is complete with these ids; may be empty."""
        text = b""
        for id in [ids] if isinstance(ids, int) else ids:
            piece = self._tokenizer.decode_bytes([id], continuation=not self._at_start)
            self._at_start = self._at_start and not self._tokenizer._piece(id)
            text += piece
        return self._utf8.decode(text)

    def end(self) -> str:
        """What is left of an unfinished character: U+FFFD, or nothing."""
        return self._utf8.decode(b"", final=True)


def from_card(json: bytes, card: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of a model file: metadata `edge.tokenizer` and card. BadFile where the two do not fit together."""
    template = card.get("template") or {}
    bos_id, stop_ids = card.get("bos_id"), card.get("stop_ids") or []
    if not isinstance(template, dict) or not isinstance(stop_ids, list):
        raise BadFile("the card's template or stop_ids is not of the form that docs/model-file.md gives")
    before, after = template.get("before", ""), template.get("after", "")
    if not isinstance(before, str) or not isinstance(after, str):
        raise BadFile("the card's template is not two strings, before and after")
    tokenizer = Tokenizer(json, bos_id, stop_ids, before, after)
    tokenizer.turns = turns.from_card(card, tokenizer.vocab_size)
    for id in [*stop_ids, *([] if bos_id is None else [bos_id])]:
        if type(id) is not int or not 0 <= id < tokenizer.vocab_size:
            raise BadFile("the card names a bos_id or stop_ids outside the vocabulary")
    return tokenizer


def _to_bytes(text: str | bytes) -> bytes:
    """UTF-8; surrogates, which a command line can hold for bytes that are not UTF-8, become those bytes again."""
    if isinstance(text, bytes):
        return text
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _byte_pair_encoder(source: vocabulary.Vocabulary) -> tokenizers.Tokenizer:
    """The device's algorithm on the host, with exactly the symbols and merges that the device gets."""
    used = {id for _, id in source.characters} | {id for merge in source.merges for id in merge}
    names = {id: source.pieces[id].decode() for id in used}
    vocab = {name: id for id, name in names.items()} | dict(zip(BYTES, source.byte_ids, strict=True))
    merges = [(names[left], names[right]) for left, right, _ in source.merges]
    encoder = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges, byte_fallback=True))
    characters = dict(source.characters)
    if characters.get(ord(vocabulary.WORD_MARK), -1) == characters.get(ord(" ")):  # the same token: a space is a mark
        encoder.normalizer = normalizers.Replace(vocabulary.WORD_MARK, " ")
    return encoder


def _encoder_behind(data: bytes) -> tokenizers.Tokenizer | None:
    """The encoder of text behind a special token, where it is another one: no space goes before that."""
    document = json.loads(data)
    step = document.get("pre_tokenizer")
    if not isinstance(step, dict) or step.get("type") != "Metaspace" or step.get("prepend_scheme") != "first":
        return None
    return library_encoder(json.dumps({**document, "pre_tokenizer": {**step, "prepend_scheme": "never"}}).encode())


def library_encoder(data: bytes) -> tokenizers.Tokenizer:
    """The tokenizer as its file describes it, without what would turn text into special tokens, cut it or pad it."""
    document = json.loads(data)
    kept = {key: document.get(key) for key in ("normalizer", "pre_tokenizer", "model")}
    with _refusals():
        return tokenizers.Tokenizer.from_str(json.dumps({"version": "1.0", "added_tokens": [], **kept}))


@contextmanager
def _refusals() -> Iterator[None]:
    """What the library says of a file it cannot use, as BadFile; a panic in its Rust is a BaseException."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        why = ascii(str(error)[:200])
        raise BadFile(f"the tokenizer is not one that `tokenizers` can use: {why}", vocabulary.HINT) from error


# --- llama2.c


def from_llama2c(data: bytes) -> bytes:
    """A tokenizer.json from the tokenizer of a llama2.c checkpoint (tok512.bin and the like).

    The file: int32 longest length, then for each token float32 score, int32 length and its bytes, to the end. Tokens 0
    to 2 are <unk>, BOS and EOS, 3 to 258 the bytes. llama2.c merges whichever neighbours make the token with the best
    score, the leftmost first; a merge here is therefore each way to cut a token into two, ranked by score.

    Those ranks give the same ids but where tokens of equal score, or two different pairs that make one token, meet in a
    text: llama2.c then merges the leftmost, a rank always the same pair first. For two pairs of one token it matters
    only where they overlap ("a" "aa" "a" becomes "aaa" "a" there), or where merging one leads to a better merge that
    takes a symbol of the other. In tok512.bin neither can happen.
    Raises BadFile where the file is truncated, too long or not of this format.
    """
    tokens = list(_llama2c_tokens(data))
    scores = {string: score for score, string in tokens}
    names = [UNKNOWN, BOS, EOS, *(string for _, string in tokens[3:])]
    ids = {name: id for id, name in enumerate(names)}
    if len(ids) != len(names):
        raise BadFile("the llama2.c tokenizer has a token twice", "check that the file is whole")
    merges = []
    for result in names[FIRST_PIECE:]:
        cuts = ((result[:cut], result[cut:]) for cut in range(1, len(result)))
        if scores[result] > LOWEST_SCORE:
            merges += [(left, right) for left, right in cuts if min(ids.get(left, 0), ids.get(right, 0)) >= FIRST_PIECE]
    merges.sort(key=lambda pair: (-scores["".join(pair)], ids["".join(pair)], ids[pair[0]]))
    return _tokenizer_json(names, merges)


def _llama2c_tokens(data: bytes) -> Iterator[tuple[float, str]]:
    """(score, text) of each token, checked."""
    longest = struct.unpack_from("<i", data)[0] if len(data) >= 4 else 0
    if not 0 < longest <= vocabulary.MAX_PIECE_BYTES or len(data) > vocabulary.MAX_JSON_BYTES:
        raise _not_llama2c("its first number is not the length of a token")
    position, id = 4, 0
    while position < len(data):
        if position + 8 > len(data):
            raise _not_llama2c(f"it ends within token {id}")
        score, length = struct.unpack_from("<fi", data, position)
        piece = data[position + 8 : position + 8 + max(length, 0)]
        if not 0 < length <= longest or len(piece) < length or not -3e38 < score < 3e38:
            raise _not_llama2c(f"token {id} has no sound length or score, or the file ends within it")
        if id < FIRST_PIECE and piece != _llama2c_reserved(id):
            raise _not_llama2c(f"token {id} is not the one that belongs there")
        try:
            yield score, piece.decode()
        except UnicodeDecodeError as error:
            raise _not_llama2c(f"token {id} is not UTF-8") from error
        position += 8 + length
        id += 1
    if id < FIRST_PIECE or id > vocabulary.MAX_PIECES:
        raise _not_llama2c(f"it has {id} tokens")


def _llama2c_reserved(id: int) -> bytes:
    return (b"<unk>", b"\n<s>\n", b"\n</s>\n")[id] if id < FIRST_BYTE else BYTES[id - FIRST_BYTE].encode()


def _not_llama2c(why: str) -> BadFile:
    return BadFile(f"this is not a whole llama2.c tokenizer: {why}", "give the tokenizer.bin that belongs to the model")


# --- training


def train(lines: Iterable[str], vocab_size: int, word_mark: bool = True) -> bytes:
    """Trains a BPE with byte fallback of the kind the device can encode; returns its tokenizer.json.

    Tokens 0 to 258 are <unk>, <s>, </s> and the bytes, then come the characters of the lines (the most frequent, where
    they do not all fit) and the merges; fewer than vocab_size where the lines have no more to merge. Words are cut
    before each space while training, and digits, punctuation and line breaks stand alone: no merge crosses such a cut,
    so that encoding needs no cutting. vocab_size: at least 260. Without word_mark there is no dummy space, and a space
    is a token of its own: a word then has the same pieces wherever it stands, which helps a small model to copy it.
    """
    if vocab_size <= FIRST_PIECE:
        raise ValueError(f"a vocabulary of {vocab_size} has no room beside the {FIRST_PIECE} reserved tokens")
    trainee = tokenizers.Tokenizer(models.BPE())
    if word_mark:
        trainee.normalizer = normalizers.Prepend(" ")
    trainee.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(" ", "merged_with_next" if word_mark else "isolated"),
            pre_tokenizers.Split(tokenizers.Regex(r"[\r\n\t]"), "isolated"),
            pre_tokenizers.Punctuation("isolated"),
            pre_tokenizers.Digits(individual_digits=True),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[UNKNOWN, BOS, EOS, *BYTES],
        limit_alphabet=vocab_size - FIRST_PIECE,
        show_progress=False,
    )
    trainee.train_from_iterator(lines, trainer)
    model = json.loads(trainee.to_str())["model"]
    names = sorted(model["vocab"], key=model["vocab"].__getitem__)
    merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    return _tokenizer_json(names, merges, word_mark)


def _tokenizer_json(names: Sequence[str], merges: Sequence[tuple[str, ...]], dummy_space: bool = True) -> bytes:
    """A tokenizer.json with byte fallback; the first three names are the special tokens."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    steps: list[dict[str, Any]] = [{"type": "ByteFallback"}, {"type": "Fuse"}]
    if dummy_space:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": id, "content": names[id], **flags} for id in range(FIRST_BYTE)],
        "normalizer": {"type": "Prepend", "prepend": " "} if dummy_space else None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": steps},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": UNKNOWN,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": {name: id for id, name in enumerate(names)},
            "merges": [list(merge) for merge in merges],
        },
    }
    return json.dumps(document, separators=(",", ":")).encode()
