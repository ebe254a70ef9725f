"""Texts that are hard on tokenizers, the same in every run."""
import random

COUNT = 160  # of each kind

WORDS = """the of and to in a is that for it as was with be by on not he his but at are this have from or had an they which one you were her all she
there would their we him been has when who will more no if out so said what up its about into than them can only other new some could time
these two may then do first any my now such like our over man me even most made after also did many before must through back years where
much your way well down should because each just those people too good very still being long day same another know while last might great
old year off come since against go came right used take internationalization counterintuitive Tokenizer's don't can't we've I'll they'd
you're O'Neill rock-'n'-roll naïve café résumé Straße""".split()
PUNCTUATION = [". ", ", ", "! ", "? ", "; ", ": ", " - ", " \u2014 ", "... ", " (", ") ", "\" ", " \"", "'s ", "/", ".\n", ".\n\n"]
SPACES = [" ", "  ", "   ", "\t", "\t\t", "\n", "\n\n", "\n\n\n", "\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u00a0", "\u1680",
          "\u180e", "\u2003", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\u200b", "\ufeff"]
EMOJI = ["\U0001F600", "\U0001F680", "\U0001F999", "\U0001F468\u200d\U0001F469\u200d\U0001F467", "\U0001F44D\U0001F3FD",
         "\U0001F1E9\U0001F1EA", "\u2764\ufe0f", "1\ufe0f\u20e3", "\U0001F636\u200d\U0001F32B\ufe0f", "\u2705",
         "\U0001F3F4\U000E0067\U000E0062\U000E0065\U000E006E\U000E0067\U000E007F", "\U0001FAE8", "\U0001FADF"]
CODE = """def fibonacci(n: int) -> int:
    if n < 2:
        return n
    return fibonacci(n - 1) + fibonacci(n - 2)

#include <vector>
template <class T> std::vector<T> map(const std::vector<T>& xs, T (*f)(T)) {
\tstd::vector<T> ys; ys.reserve(xs.size());
\tfor (auto&& x : xs) ys.push_back(f(x));   // O(n)
\treturn ys;
}
SELECT COUNT(*), AVG(price) FROM orders WHERE created_at >= '2024-01-01' AND status IN ('paid', 'sent') GROUP BY 1;
<table><tr><td class="a&amp;b">x</td></tr></table> <!-- </s> <br/> -->
{"key": [1, 2.5e-10, null, true], "nested": {"a\\n": "\\u00e9"}}
for i in $(seq 1 10); do echo "$i: ${ARRAY[$i]}" >> /tmp/out.txt 2>&1; done
x = 0x7FFF_FFFF; y ^= (x << 31) | ~0b1010; z **= -1_000_000.0
        deeply.indented(call)->with['many'](brackets)[0]{;}
if __name__ == "__main__":\r\n    main(*sys.argv[1:])\r\n""".split("\n")
SCRIPTS = {"latin": (0x41, 0x24F), "greek": (0x370, 0x3FF), "cyrillic": (0x400, 0x52F), "armenian": (0x531, 0x58A),
           "hebrew": (0x591, 0x5F4), "arabic": (0x600, 0x6FF), "devanagari": (0x900, 0x97F), "bengali": (0x980, 0x9FE),
           "tamil": (0xB82, 0xBFA), "thai": (0xE01, 0xE5B), "tibetan": (0xF00, 0xFDA), "georgian": (0x10A0, 0x10FF),
           "ethiopic": (0x1200, 0x139F), "khmer": (0x1780, 0x17F9), "digits": (0x30, 0x39), "arabic digits": (0x660, 0x669),
           "marks": (0x300, 0x36F), "jamo": (0x1100, 0x11FF)}
CJK = [(0x4E00, 0x9FFF), (0x4E00, 0x62FF), (0x3041, 0x3096), (0x30A1, 0x30FA), (0xAC00, 0xD7A3), (0x3400, 0x4DBF), (0x20000, 0x2A6DF),
       (0x30000, 0x323AF), (0x3000, 0x303F), (0xFF01, 0xFF60), (0xF900, 0xFAD9)]


def characters(draw, ranges, count):
    return "".join(chr(draw.randint(*draw.choice(ranges))) for _ in range(count))


def joined(draw, most, part):
    return "".join(part() for _ in range(draw.randint(1, most)))


def plain(draw):
    gap = lambda: draw.choice([" ", " ", " ", draw.choice(PUNCTUATION)])
    return joined(draw, 40, lambda: draw.choice(WORDS) + gap()).strip(draw.choice(["", " "]))


def unicode_and_emoji(draw):
    everything = [(0x20, 0x7E), (0x80, 0x2FF), (0x300, 0x36F), (0x370, 0x1FFF), (0x2000, 0x2BFF), (0xA000, 0xABFF), (0xE000, 0xE010),
                  (0xFB00, 0xFFFD), (0x10000, 0x12FFF), (0x1D400, 0x1D7FF), (0x1F300, 0x1FAFF), (0x10FFFE, 0x10FFFF)]
    some = lambda: characters(draw, everything, draw.randint(1, 8))
    return joined(draw, 16, lambda: draw.choice([draw.choice(EMOJI), some(), draw.choice(WORDS), " "]))


def cjk(draw):
    gap = lambda: draw.choice(["", "", "\u3002", "\uff0c", " ", "GPT-4", "123", "\n"])
    return joined(draw, 10, lambda: characters(draw, [draw.choice(CJK)], draw.randint(1, 12)) + gap())


def white_space(draw):
    run = lambda: draw.choice(SPACES) * draw.choice([1, 1, 2, 3, 7, 15, 16, 17, 31, 32, 40, 100])
    return joined(draw, 12, lambda: draw.choice([run(), run(), draw.choice(WORDS), draw.choice("a1.\u00e9")]))


def code(draw):
    lines = [draw.choice(["", "    ", "\t", "        "]) + draw.choice(CODE) for _ in range(draw.randint(1, 6))]
    return draw.choice(["\n", "\r\n", "\n\n"]).join(lines)


def control_tokens(draw, tokens):
    """`tokens`: the added tokens of the tokenizer under test. Whole, cut, doubled, beside words and white space."""
    def part():
        token, space, word = draw.choice(tokens), draw.choice(SPACES), draw.choice(WORDS)
        return draw.choice([token, token, token, token[:-1], token[1:], token + token, token.upper(), token.replace("_", " "), space, space * 3,
                            word, word + " "])
    return joined(draw, 12, part)


def mixed_scripts(draw):
    gap = lambda: draw.choice(["", " ", " ", "-", ", ", "'s ", "\n"])
    return joined(draw, 14, lambda: characters(draw, [SCRIPTS[draw.choice(list(SCRIPTS))]], draw.randint(1, 9)) + gap())


def random_bytes(draw):
    return bytes(draw.randrange(256) for _ in range(draw.randint(1, 120))).decode("utf-8", errors="replace")


KINDS = {f.__name__: f for f in (plain, unicode_and_emoji, cjk, white_space, code, control_tokens, mixed_scripts, random_bytes)}


def texts(kind, tokens):
    draw = random.Random(f"tessera {kind}")
    return [KINDS[kind](draw, tokens) if kind == "control_tokens" else KINDS[kind](draw) for _ in range(COUNT)]
