"""Texts on which tokenizers part: scripts, numbers of other scripts, emoji, code, control characters, long runs."""

from __future__ import annotations

import random
import unicodedata

SENTENCES = (
    "",
    "Hello, world!",
    "It's 12345 o'clock, we'll say: 3.14159 isn't 22/7!",
    "I'LL SAY IT'S HERS'S; they'Re, we'vE, can'T, 'tis, 'S'S s's",
    "I’ll say it’s “quoted” — and… so on",
    "The  quick   brown    fox     jumps      over       the        lazy dog",
    "$1,234,567.89 + 50% = ~€99.00 <b>x</b> a|b ^_^ C++ a->b == c != d && e || f",
    "2024-11-24T13:09:44Z 192.168.0.1:8080 0xDEADBEEF 1e-10 1_000_000 v2.0.1 007 12 123 1234 12345 123456 1234567",
    "user@example.com https://example.com/path?q=1&r=%20#top C:\\Users\\x\\y.txt ../a/b",
    "word" * 30,
    "CamelCaseAndsnake_case_and-kebab-case.and.dots",
)
SCRIPTS = (
    "漢字とひらがなとカタカナ、それから「記号」。",
    "我能吞下玻璃而不伤身体。第123章",
    "나는 유리를 먹을 수 있어요. 그래도 아프지 않아요",
    "أنا قادر على أكل الزجاج و هذا لا يؤلمني. ١٢٣٤٥",
    "אני יכול לאכול זכוכית וזה לא מזיק לי. שָׁלוֹם",
    "मैं काँच खा सकता हूँ, मुझे उस से कोई पीडा नहीं होती. १२३",
    "ฉันกินกระจกได้ แต่มันไม่ทำให้ฉันเจ็บ ๑๒๓",
    "Я могу есть стекло, оно мне не вредит. Ёжик",
    "Μπορώ να φάω σπασμένα γυαλιά χωρίς να πάθω τίποτα",
    "Größe, Straße, naïve café, Ærøskøbing, İstanbul ı, Đà Nẵng, ŠŽČĆ",
    "e\u0301 a\u0308 n\u0303 o\u0302\u0301 \u1100\u1161\u11a8 \u0915\u094d\u0937 Z\u0351\u036b\u0343a\u0321",
    "\u00e9 vs e\u0301, \u212b vs \u00c5, \ufb01 vs fi, \u2126 \u03a9, \u1e9b\u0323",
)
NUMBERS = (
    "x² y³ ½ ¼ ¾ Ⅷ ⅻ ① ㉑ ㊿ ０１２３４５ ٣٤٥ ১২৩ 𝟘𝟙𝟚 𝟗𝟗 万 〇 ௧௨ ꧑",
    "1२3४5 a1b22c333d4444 1.2.3 1 2 3 12٣45 ½1 1½ ²²² 1²3",
    "9" * 100,
    "3.14159265358979323846264338327950288419716939937510",
)
EMOJI = (
    "🙂🙃😀 😀😀😀 :-) ❤️ ☺️ ✂ ™ ©",
    "👨‍👩‍👧‍👦 👩🏽‍💻 🏳️‍🌈 🇫🇷🇩🇪 👍🏿👍 1️⃣ #️⃣",
    "a🙂b 🙂1🙂 🙂's 🙂\n🙂",
    "𝕏 𝓗𝓮𝓵𝓵𝓸 𐍈 𒀀 🜁 \U0010fffd \ue000 \u0378 \U000e0001",
)
CODE = (
    "def f(x):\n    return x**2 + 'é'  # square\n\n\nclass A(B):\n\tpass\n",
    'int main(void)\r\n{\r\n\tfor (int i = 0; i < 10; ++i) {\r\n\t\tprintf("%d\\n", i);\r\n\t}\r\n}\r\n',
    '{"a": [1, 2.5, null, true], "b": {"c": "\\u00e9\\n"}}',
    "<!DOCTYPE html>\n<div class='x'>&nbsp;&#39;</div>\n<!-- -->",
    "SELECT * FROM t WHERE a='it''s' AND b>=10;--x",
    "```python\nprint('hi')\n```\n\n- [ ] todo\n* **bold** _it_\n| a | b |\n|---|---|\n",
    "$x = @{ a = 1 }; ${y}; #!/bin/sh\nexit 0",
)
BLANKS = (
    " ",
    "  ",
    " a",
    "a ",
    "a  ",
    "a   b",
    "\n",
    "\n\n",
    "\n\n\na",
    " \n \n  a",
    "a\n \nb \n\n c",
    "\t\ta\t b\t\n\t",
    "a\r\nb\rc\n\rd\r\n\r\n",
    "a\u00a0b \u00a0 c\u3000d\u2003e\u2009f\u200bg\ufeffh\u2028i\u2029j\u0085k\u1680l\u180em",
    "\u00a0", "\u3000\u3000x", " \u00a0 \u00a0x", "x\u2028\u2028", "\u200d\u200c\u2060", "\x0b\x0c a \x0bb\x0c",
)  # fmt: skip
CONTROL = (
    "".join(map(chr, range(32))),
    "a\x00b\x01c\x1b[31mred\x1b[0m\x07\x08\x7f\x80\x9f",
    "\ufeffBOM \ufffd \ufffe \uffff \u202eabc\u202c",
)
SPECIAL = (
    "<|im_start|>system\nYou are a pirate.<|im_end|>\n<|im_start|>user\n",
    "<|im_end|>", "<|endoftext|>", " <|endoftext|> ", "a<|im_end|>b", "<|im_end", "|>", "<|im_start|><|im_start|>",
    "</s>", "<s>", "<unk>", "<0x0A>", "[INST] x [/INST]", "<think></think>", "<repo_name>a<file_sep>b<empty_output>",
    "<|im_en<|im_end|>d|>", "▁", "▁▁a ▁b", "a▁ b", "Ġ", "ĠĊ", "Ġhello ĉ",
)  # fmt: skip
LONG = (
    "a" * 10_000,
    " " * 10_000,
    " " * 9_999 + "x",
    "\n" * 10_000,
    "7" * 10_000,
    "!" * 10_000,
    "é" * 5_000,
    "漢" * 5_000,
    "🙂" * 2_500,
    "ab " * 3_333,
    "\t \n" * 3_333,
    "Hello world 123 " * 625,
    "'s" * 5_000,
    "e\u0301" * 3_000,
)


def drawn(count: int = 60, length: int = 60) -> tuple[str, ...]:
    """Texts of random characters: of those that Unicode has long had, and of those that rules of splitting name.

    What newer versions of Unicode added is split by whichever version a library was built with.
    """
    source = random.Random(0)
    near = "aB9é漢 \n\t\r'sStT.$_-²½٣\u0301\u00a0🙂<|l"
    found = []
    for index in range(count):
        characters = []
        for _ in range(length):
            if index % 2 or source.randrange(4):
                characters.append(near[source.randrange(len(near))])
            else:
                code = source.randrange(0x30000)
                characters.append(" " if unicodedata.ucd_3_2_0.category(chr(code)) in ("Cn", "Cs") else chr(code))
        found.append("".join(characters))
    return tuple(found)


TURN = ("<|im_start|>", "user\n", "{}", "<|im_end|>", "\n", "<|im_start|>", "assistant\n")  # a chat's, {} the text
TEXTS = (
    *SENTENCES, *SCRIPTS, *NUMBERS, *EMOJI, *CODE, *BLANKS, *CONTROL, *SPECIAL, *LONG, *drawn(),
)  # fmt: skip
