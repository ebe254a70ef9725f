"""Small templates that try Jinja's and Python's rules one by one; `v` holds values of every kind."""

VALUES = {
    "s": "hello World", "t": "  x\ty \n", "u": "éß🙂 Ünï ſ", "e": "", "n": None, "yes": True, "no": False, "i": 7, "m": -3, "z": 0, "f": 2.5, "big": 1e16, "tiny": 1e-5,
    "l": [3, 1, 2], "w": ["b", "A", "c", "a"], "mixed": [1, "a", None, True, 2.0, [1], {"k": "v"}], "d": {"b": 1, "a": [1, 2], "items": "x", "C": None},
    "rows": [{"name": "Bo", "age": 3, "deep": {"x": 1}}, {"name": "al", "age": 1}, {"name": "Cy", "age": 2, "tag": True}], "lines": "one\ntwo\r\n\n three\x0bfour", "q": "it's \"so\" \\ \x7f\u200b\x00",
    "html": "<a href='x'>&\"</a>",
}

EXPRESSIONS = r"""
s|upper; s|lower; s|title; s|capitalize; u|upper; u|lower; u|title; u|capitalize; u.title(); s.title(); "it's o'neil-smith (a) [b]"|title; "it's o'neil".title()
t|trim; t.strip(); t.lstrip(); t.rstrip(); "xxaxx".strip("x"); "xyaxy"|trim("xy"); s.lstrip("he"); s.rstrip("dl"); "\u3000a\u2009".strip()
s.split(); s.split("o"); s.split("o", 1); s.rsplit("o", 1); " a  b c ".split(None, 1); " a  b c ".rsplit(None, 1); " a b ".split(None, 0); "".split(); "".split(","); ",a,".split(","); "a,b,c".rsplit(",", 1)
lines.splitlines(); lines.splitlines(True); "a\n".splitlines(); s.partition(" "); s.rpartition("o"); s.partition("q"); s.rpartition("q")
s.startswith("he"); s.endswith("ld"); s.startswith(("x", "h")); s.endswith(""); s.find("o"); s.rfind("o"); s.find("q"); u.find("Ü"); s.index("W"); s.index("q"); s.count("o"); s.count(""); "aaa".count("aa")
s.replace("o", "0"); s.replace("o", "0", 1); s.replace("", "-"); u.replace("", "."); "aaa".replace("aa", "b"); s|replace("l", "L"); s|replace("l", "L", 1); s|replace("", "_", 2); 123|replace(2, "x"); s.removeprefix("hello "); s.removesuffix("World"); s.removeprefix("q")
"-".join(w); ", ".join([]); w|join; w|join("/"); mixed|join("|"); rows|join(",", attribute="name"); rows|map(attribute="name")|join(", "); [1, 2]|join(3)
"{} {}".format(1, "a"); "{1}{0}".format("a", "b"); "{x}".format(x=3); "{{}}{}".format(1); "{".format(1); "{}".format(); "%s and %d" % ("a", 3); "%5.2f|%-5d|%05d" % (3.14159, 42, 7); "%s" % s; "%(b)s" % d; "%x %X %o" % (255, 255, 8); "%e %g" % (12345.678, 0.0001); "%r" % q; "%%" % (); "%d%%" % 5; "%s %s" % ("a",); "%s" % ("a", "b"); "%3s|%-3s|" % ("a", "b"); "%.2s" % s; "%d" % 3.99; "%d" % "a"; "%+d" % 3; "%s"|format(3); "%s-%s"|format("a", 1)
"7".zfill(3); "-7".zfill(4); "a".center(4, "*"); "ab".center(5); "a".ljust(3) ~ "|"; "a".rjust(3); "ab"|center(5); s.isalpha(); "abc".isalpha(); "12".isdigit(); "1a".isalnum(); "Ab".isupper(); "AB".isupper(); "ab".islower(); " ".isspace(); "".isspace(); "a1".isalpha(); "12".isdecimal(); "12".isnumeric()
s[0]; s[-1]; s[99]; s[1:4]; s[::-1]; s[::2]; s[-3:]; s[:-3]; s[5:2]; u[1:3]; u[::-1]; l[0]; l[-1]; l[5]; l[1:]; l[::-1]; l[:1]; l[0:10:2]; l[::0]; (1, 2, 3)[1:]; range(5)[1:3]|list; n[1:]; d[1:]; x[1:]; i[0]; s["x"]; d["a"]; d.a; d.q; d["items"]; d.items()|list; d.q.r; n.a; n["a"]; l.a; "abc".upper
1 + 2; 1 + 2.5; 7 / 2; 7 // 2; -7 // 2; 7 % 3; -7 % 3; 7 % -3; 2 ** 10; 2 ** -1; 2 ** 0.5; 7.5 // 2; -7.5 % 2; 1 / 0; 1 // 0; 1 % 0; yes + 1; 3 * 2; "ab" * 3; 3 * "ab"; [1] * 2; [1] + [2]; (1,) + (2,); [1] + (2,); "a" + 1; 1 + "a"; "a" ~ 1 ~ none ~ true ~ 2.0; -f; -s; +3; -x; 5 - 2 - 1; 2 + 3 * 4; (2 + 3) * 4; -2 ** 2; 10 / 5; 1e16; 1e15; 123456789.123; 1e-4; 0.00001; 1.0; 1e100; 0.1 + 0.2; 3.0 * 2; 1_000; 1e3; 9223372036854775807
1 < 2; 1 < 2 < 3; 3 > 2 > 2; "a" < "b"; "a" < 1; 1 == 1.0; 1 == true; "1" == 1; [1] == [1]; [1] == (1,); {"a": 1} == {"a": 1.0}; n == none; x == y; x == none; l != w; 1 <= 1.5; [1, 2] < [1, 3]; [1] < [1, 2]; n < 1; x < 1; "é" > "z"
"el" in s; "x" not in s; 1 in l; "a" in d; 1 in d; n in mixed; [1] in mixed; "a" in none; 1 in s; "a" in x; x in l; [1] in d; 2 in range(3); "a" in d.keys()
n and 1; 0 or "a"; not n; not ""; "a" and "b"; x or 1; x and 1; not x; [] or {}; 1 if yes; 1 if no; 1 if no else 2; 1 if x else 2 if yes else 3; (1 if no) is defined
x; x|length; x|default("d"); e|default("d"); e|default("d", true); n|default("d"); x|d; no|default(1, boolean=true); x|list; x|string; x|trim; x|upper; x|tojson; x.y; x + 1; x(); x|first; x|join; x|items|list
s|length; l|length; d|length; 5|length; n|length; l|count; u|length; l|first; l|last; []|first; []|last; s|first; s|last; d|first; l|list; s|list; d|list; l|reverse|list; s|reverse; range(3)|list; range(1, 10, 3)|list; range(5, 0, -2)|list; range(0)|list; range(100001)|length; (1, 2)|list
l|sort; w|sort; w|sort(case_sensitive=true); w|sort(reverse=true); rows|sort(attribute="age")|map(attribute="name")|list; mixed|sort; l|max; l|min; []|max; w|max; w|min; rows|map(attribute="age")|sum; l|sum; rows|sum(attribute="age"); l|sum(start=10); w|unique|list; [1, 1.0, true, "1"]|unique|list; d|dictsort; d|dictsort(reverse=true); {"b": 1, "A": 2}|dictsort(true); d|items|list; d.keys()|list; d.values()|list; l|batch(2)|list; l|batch(2, 0)|list
rows|selectattr("tag")|list|length; rows|selectattr("age", "gt", 1)|map(attribute="name")|list; rows|rejectattr("age", "equalto", 1)|map(attribute="name")|list; l|select("odd")|list; l|reject("odd")|list; mixed|select|list; mixed|select("string")|list; rows|map(attribute="deep.x")|list; rows|map(attribute="deep", default=0)|list; w|map("upper")|list; w|map("replace", "a", "x")|list; rows|selectattr("name", "in", ["Bo", "Cy"])|list|length; l|select("divisibleby", 3)|list; l|map("string")|list; rows|selectattr("name", "defined")|list|length; l|map; l|select|length; none|select("odd")|list
l|tojson; d|tojson; mixed|tojson; d|tojson(indent=2); mixed|tojson(indent=4); []|tojson(indent=2); {}|tojson; d|tojson(sort_keys=true); d|tojson(separators=(",", ":")); u|tojson; u|tojson(ensure_ascii=true); q|tojson; html|tojson; lines|tojson; n|tojson; yes|tojson; f|tojson; big|tojson; tiny|tojson; 1.0|tojson; (1, 2)|tojson; {1: 2, none: 3, true: 4}|tojson; d|tojson(indent="--"); [[], {}]|tojson(indent=1); d.items()|tojson; range(3)|tojson; d|tojson(true)
l|string; d|string; mixed|string; q|string; [q]; [u, "\u200b", "\n\t'"]; ["it's"]; ['"']; (1,); (); (1, 2); {}; {"a": (1, none)}; [1.0, 1e16, 1e-5, true]; d.keys(); d.values(); d.items(); [x]; 5|string; 2.50|string; true|string
"3"|int; "3.7"|int; "x"|int; "x"|int(9); 3.9|int; -3.9|int; n|int; " 4 "|int; "3"|float; "x"|float; "1e3"|float; 3|float; yes|int; 3.456|round; 3.456|round(2); 2.5|round; 3.5|round; 7|round; 2.3|round(0, "ceil"); 2.7|round(0, "floor"); 42.55|round(1, "floor"); -3|abs; -3.5|abs; "a"|abs; "1_0"|int
lines|indent; lines|indent(2, first=true); lines|indent(2, blank=true); lines|indent("> "); "a\n\nb"|indent(2); "a\n"|indent; "hello world foo"|truncate(9); "hello world foo"|truncate(9, true); "hello"|truncate(9); "hello world foo"|truncate(11, false, "", 0); "foo bar's x_y"|wordcount; html|escape; html|e; html|safe; html|safe + "<b>"; "<b>" + html|safe; html|safe ~ "<b>"; html|escape|escape; html|safe|string
s is string; 5 is string; 5 is number; true is number; true is integer; 5 is integer; 5.0 is float; true is boolean; n is none; x is none; x is defined; x is not defined; s is defined; x is undefined; d is mapping; l is mapping; l is iterable; 5 is iterable; s is iterable; x is iterable; l is sequence; d is sequence; s is sequence; x is sequence; 5 is sequence; d.items() is sequence; l|select is iterable; 3 is odd; 4 is even; 9 is divisibleby 3; 9 is divisibleby(4); 1 is eq 1; 1 is equalto(2); 1 is lt 2; 2 is ge 3; 1 is in l; yes is true; yes is false; 1 is true; "ab" is lower; "AB" is upper; n is sameas none; s.upper is callable; s is callable; "upper" is filter; "nofilter" is filter; "odd" is test; s is not string
d.get("a"); d.get("q"); d.get("q", 5); d.get("C", 5); d.pop("a"); l.append(1); l.index(1); l.index(9); l.count(1); d.update({}); d.copy(); l.copy(); s.upper().lower(); s.nothing; s.nothing(); d.items; s.__class__; s.__class__.__mro__; [].__class__; "abc".format; d|attr("a"); s|attr("upper") is callable; "a" "b"; 'it\'s'; "\x41\u00e9\101\q"; "tab\there"
{"a": 1}.a; {"a": {"b": [1, 2]}}.a.b[1]; {"x": 1, "x": 2}; {1: "a"}[1]; {1: "a"}["1"]; l.0; rows.0.name; rows[0]["name"]; rows[0].deep.x; ([1, 2], 3); [1, 2,]; {"a": 1,}; dict(a=1, b=2); dict([("a", 1)]); dict(d, z=1)|length; namespace(a=1).a; namespace(a=1).b; namespace().x is defined
range(3) == range(3); range(2)|string; cycler; lipsum; strftime_now("%Y-%m-%d"); strftime_now("%d %b %Y, %H:%M %%"); raise_exception("no"); loop; self; s|nofilter; s is notest; s|upper|lower|length; (s|upper)[0]; s|default("x")|upper; -3|abs; not s is string; 1 + 1 is even; "a" ~ "b" * 2; "a" ~ "b"|upper; 2 * 3 ~ 4; 1 ~ 2 + 3
""".strip()

TEMPLATES = [
    "{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }}{{ x }} {% endfor %}",
    "{% for x in l %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }};{{ loop.previtem is defined }}{% endfor %}",
    "{% for x in l %}{{ loop.cycle('a', 'b') }}{{ loop.changed(x > 1) }}{{ loop.depth }}{% endfor %}",
    "{% for x in [] %}a{% else %}none{% endfor %}|{% for x in l %}a{% else %}none{% endfor %}",
    "{% for x in l if x > 1 %}{{ loop.index }}:{{ x }}:{{ loop.last }} {% else %}none{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for k in d %}{{ k }}{% endfor %}{% for c in u %}[{{ c }}]{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}",
    "{% for x in none %}{% endfor %}", "{% for x in 5 %}{% endfor %}", "{% for x in undefined_thing %}a{% else %}b{% endfor %}",
    "{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in l %}{% for y in l %}{% if y == 1 %}{% break %}{% endif %}{{ x }}{{ y }}{{ loop.index }} {% endfor %}{{ loop.index }};{% endfor %}",
    "{% set x = 1 %}{% for i in l %}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}",
    "{% set ns = namespace(x=1) %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}{% set ns.y = [ns.x] %}{{ ns.y }}",
    "{% set d.x = 1 %}", "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }}{{ ns.c }}", "{% set ns = namespace(_a=1) %}{{ ns }}",
    "{% if yes %}{% set y = 1 %}{% endif %}{{ y }}", "{% if no %}{% set y = 1 %}{% endif %}{{ y }}|{{ y is defined }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set c = 1, 2 %}{{ c }}{% set (p, q) = (3, 4) %}{{ p }}{{ q }}",
    "{% set x %}a{{ i }}b{% endset %}[{{ x }}]{% set y | upper %}abc{% endset %}{{ y }}{% set z | replace('a', 'x') | upper %}abc{% endset %}{{ z }}",
    "{% filter upper %}a{{ s }}{% endfilter %}{% filter indent(2) %}a\nb{% endfilter %}",
    "{% with a = 1, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% set a = 5 %}{% with a = 1, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}",
    "{% macro m(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}|{{ m(1, 3) }}|{{ m(1, c=4) }}|{{ m(b=5, a=6) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m() }}|{{ m(1, 2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(q=1) }}", "{% macro m(a) %}{{ a is defined }}{% endmacro %}{{ m() }}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}", "{% macro m(a) %}{{ a }}{{ varargs|join(',') }}{% endmacro %}{{ m(1, *[2, 3]) }}{{ m(**{'a': 4}) }}",
    "{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}body {{ i }}{% endcall %}", "{% macro m() %}{{ caller(1) }}{{ caller(2) }}{% endmacro %}{% call(x) m() %}[{{ x }}]{% endcall %}",
    "{% macro m() %}a{% endmacro %}{% call m() %}b{% endcall %}", "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}",
    "{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}", "{% macro m() %}{{ g }}{% endmacro %}{% set g = 1 %}{{ m() }}{% set g = 2 %}{{ m() }}",
    "{% macro m() %}{{ x }}{% endmacro %}{% for x in l %}{{ m() }}{% endfor %}", "{% macro m() %}{% set s = 'in' %}{{ s }}{% endmacro %}{{ m() }}{{ s }}", "{% macro m(x) %}{{ x }}{% endmacro %}{{ m('a')|upper }}{{ m('<')|length }}",
    "{% for i in l %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}", "{{ later() }}{% macro later() %}x{% endmacro %}",
    "a\n{% if yes %}\nb\n{% endif %}\nc", "a\n  {% if yes %}  \n  b\n  {% endif %}\nc", "a {%- if yes -%} b {%- endif -%} c", "a\n{%+ if yes %}\nb{% endif %}", "  {%+ if yes +%}\n b {% endif %}\n",
    "a\n  {{ i }}\n  {{- i }}\n{{ i -}}\n  b", "{# c #}\na{#- c -#} b\n  {# x #}\n c", "a {#+ c +#}\nb", "x{#-#}\n y", "{% raw %}{{ x }}{% if %}{% endraw %}", "a\n  {%- raw -%}\n {{ x }} \n{%- endraw -%}\n b", "{% raw %}\n a{% endraw %}\nb",
    "{% if no %}a{% elif i == 7 %}b{% else %}c{% endif %}", "{% if no %}a{% elif no %}b{% else %}c{% endif %}", "{% if x %}a{% endif %}", "{% if 1, %}a{% endif %}",
    "{{ i }}\n", "{{ i }}\n\n", "\n{{ i }}", "{{ i }}\r\n{{ i }}\r", "{{ '{{' }}{{ \"%}\" }}", "{{ {'a': {'b': 1}}['a']['b'] }}", "{{ {'a': {'b': 1}}}}", "{{ [1, [2, 3]][1][0] }}", "{ { i } } {x %x} {", "{{ i }", "{{ }}", "{% if %}a{% endif %}", "{% endif %}", "{% if yes %}", "{{ 'a }}", "{{ (1 }}", "{{ 1) }}", "{{ a b }}", "{% nothing %}", "{% include 'x' %}", "{% extends 'x' %}", "{% import 'x' as y %}", "{# never ends",
    "{% if no %}{{ s|nofilter }}{% endif %}ok", "{% if no %}{{ s is notest }}{% endif %}ok", "{{ s|nofilter if no else 'ok' }}", "{% for x in [] %}{{ s|nofilter }}{% endfor %}ok", "{% if no %}{% for x in [] %}{{ s|nofilter }}{% endfor %}{% endif %}ok", "{% if no %}{{ nofunction() }}{% endif %}ok",
    "{% generation %}a{% set gg = 1 %}{% endgeneration %}{{ gg }}", "{% print i %}", "{% set loop = 1 %}{{ loop }}", "{% for loop in l %}{% endfor %}", "{% set true = 1 %}", "{% do l.append(1) %}", "{% break %}", "{% autoescape true %}a{% endautoescape %}",
    "{% set g = l|select('odd') %}{{ g|list }}{{ g|list }}{{ 'x' if g }}", "{% set g = rows|map(attribute='name') %}{% for a in g %}{{ a }}{{ loop.last }}{% endfor %}", "{{ d.items() }}", "{{ l|map('upper') }}",
    "{%- for m in rows -%}\n  {{- m.name }}: {{ m.age }}\n{% endfor -%}\nend", "{% for x in l -%} {{ x }} {%- endfor %}", "{% set x = 'a' %}{% if x is string and x is not none and x|length > 0 %}yes{% endif %}", "{{ s if s is string else none }}", "{{ (l + [4])[-1] }}", "{{ (rows|first).name }}", "{{ rows|length - 1 }}", "{{ l[l|length - 1] }}", "{{ rows[0].name.split('o')[0] }}", "{{ (s ~ ' ' ~ i).strip() }}",
    "{% set content = 'a</think>b' %}{{ content.split('</think>')[-1].lstrip('\n') }}{{ content.split('</think>')[0].rstrip('\n').split('<think>')[-1] }}",
    "{{ 'x' * i }}{{ '=' * 10 }}{{ -1 * 'a' }}", "{% set a = b = 1 %}", "{{ s.upper() ~ s[0] | lower }}", "{{ none | default('x') ~ true }}", "{{ loop is defined }}", "{% for x in l %}{% endfor %}{{ x is defined }}", "{{ [1,2,3] | tojson | length }}",
]
