#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>
#include <string>
#include <vector>

#include "core/error.h"
#include "text/chat_template.h"
#include "text/jinja/json.h"
#include "text/jinja/lexer.h"
#include "text/jinja/template.h"

namespace tessera::jinja {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Template compile(std::string_view source) { return Template::compile(source, "chat template"); }

// p is a person's text, t the template's.
Text render(std::string_view source, const Limits& limits = {}) {
  const Template::Variables variables{{"p", Value::text("Ab 1 é", Origin::person)},
                                      {"spaced", Value::text(" \n p p\t", Origin::person)},
                                      {"t", Value::text("t", Origin::template_text)},
                                      {"data", from_json(parse_json(R"({"k": ["v", 1.50, true, null, {}]})", "data").root(), "data")},
                                      {"n", Value(int64_t{7}, true)}};
  return compile(source).render(variables, std::tm{}, limits);
}

// The text with its person's parts between angle brackets.
std::string marked(const Text& text) {
  std::string out;
  size_t begin = 0;
  for (const Text::Run& run : text.runs()) {
    const std::string part = text.bytes().substr(begin, run.end - begin);
    out += run.origin == Origin::template_text ? part : "<" + part + ">";
    begin = run.end;
  }
  return out;
}

constexpr Limits kSmall{.steps = size_t{1} << 20, .value_bytes = size_t{16} << 20};

template <class Error = std::invalid_argument>
std::string error_of(std::string_view source, const Limits& limits = kSmall) {
  try {
    render(source, limits);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

struct OriginCase {
  const char *source, *expected;
};
class Origins : public ::testing::TestWithParam<OriginCase> {};

TEST_P(Origins, stay_with_the_bytes) { EXPECT_EQ(marked(render(GetParam().source)), GetParam().expected); }

INSTANTIATE_TEST_SUITE_P(
    jinja, Origins,
    ::testing::Values(
        OriginCase{"a{{ p }}b", "a<Ab 1 é>b"}, OriginCase{"{{ 'a' + p + t }}", "a<Ab 1 é>t"}, OriginCase{"{{ t ~ p ~ 1 }}", "t<Ab 1 é>1"},
        OriginCase{"{{ '<|' ~ p ~ '|>' }}", "<|<Ab 1 é>|>"}, OriginCase{"{{ p * 2 }}", "<Ab 1 éAb 1 é>"},
        OriginCase{"{{ (t + p) * 2 }}", "t<Ab 1 é>t<Ab 1 é>"}, OriginCase{"{{ p[1] }}{{ p[1:3] }}{{ p[::-1] }}", "<bb é 1 bA>"},
        OriginCase{"{{ (t + p + t)[1:-1] }}", "<Ab 1 é>"}, OriginCase{"{{ '%s!' % p }}", "<Ab 1 é>!"},
        OriginCase{"{{ '[%5.2s]' % p }}", "[   <Ab>]"}, OriginCase{"{{ '%d' % n }}{{ '%d' % 7 }}", "<7>7"},
        OriginCase{"{{ '{}-{x}'.format(p, x=t) }}", "<Ab 1 é>-t"}, OriginCase{"{{ p.format(t) }}", "<Ab 1 é>"},
        OriginCase{"{{ p | replace('1', 'one') }}", "<Ab >one< é>"}, OriginCase{"{{ 'a1b'.replace('1', p) }}", "a<Ab 1 é>b"},
        OriginCase{"{{ [p, t] | join(', ') }}", "<Ab 1 é>, t"}, OriginCase{"{{ p.join(['a', 'b']) }}", "a<Ab 1 é>b"},
        OriginCase{"{{ p.split(' ') | join('|') }}", "<Ab>|<1>|<é>"}, OriginCase{"{{ (t ~ ' ' ~ p).split()[0] }}", "t"},
        OriginCase{"{{ p.partition(' ')[2] }}", "<1 é>"}, OriginCase{"{{ spaced | trim }}", "<p p>"},
        OriginCase{"{{ (' ' ~ spaced ~ 'x ').strip() }}", "<p p\t>x"}, OriginCase{"{{ spaced.strip('\\n\\t ') }}", "<p p>"},
        OriginCase{"{{ p.lstrip('A') }}{{ p.rstrip('é') }}", "<b 1 éAb 1 >"},
        OriginCase{"{{ (p ~ t) | upper }}{{ p | lower }}", "<AB 1 É>T<ab 1 é>"},
        OriginCase{"{{ p | title }}{{ p | capitalize }}{{ p.title() }}", "<Ab 1 ÉAb 1 éAb 1 É>"},
        OriginCase{"{{ p | string }}{{ p | list | join }}{{ p | reverse }}", "<Ab 1 éAb 1 éé 1 bA>"},
        OriginCase{"{{ p | indent(2, true) }}", "  <Ab 1 é>"}, OriginCase{"{{ p | center(8) }}", " <Ab 1 é> "},
        OriginCase{"{{ p | truncate(4, true, '.', 0) }}", "<Ab >."}, OriginCase{"{{ '&' | e }}{{ '<' ~ p | e }}", "&amp;<<Ab 1 é>"},
        OriginCase{"{{ p | default('x') }}{{ q | default(p) }}", "<Ab 1 éAb 1 é>"}, OriginCase{"{{ p | tojson }}", "<\"Ab 1 é\">"},
        OriginCase{"{{ p | tojson(ensure_ascii=true) }}", "<\"Ab 1 \\u00e9\">"},
        OriginCase{"{{ {'a': p} | tojson }}", "{\"a\": <\"Ab 1 é\">}"},
        OriginCase{"{{ data | tojson }}", "<{\"k\": [\"v\", 1.5, true, null, {}]}>"},
        OriginCase{"{{ data | tojson(indent=1) }}", "<{\n \"k\": [\n  \"v\",\n  1.5,\n  true,\n  null,\n  {}\n ]\n}>"},
        OriginCase{"{{ [p, 1] }}{{ data }}", "[<'Ab 1 é'>, 1]<{'k': ['v', 1.5, True, None, {}]}>"},
        OriginCase{"{{ data.k[1] }}{{ data.k[1] + 1 }}{{ n | int }}{{ '7' | int }}{{ '1' ~ n }}", "<1.52.57>71<7>"},
        OriginCase{"{% for key, value in data.items() %}{{ key }}{{ value[0] }}{% endfor %}", "<kv>"},
        OriginCase{"{% set x %}a{{ p }}{% endset %}{{ x }}", "a<Ab 1 é>"},
        OriginCase{"{% filter upper %}a{{ p }}{% endfilter %}", "A<AB 1 É>"},
        OriginCase{"{% macro m(x) %}[{{ x }}{{ caller() }}]{% endmacro %}{% call m(p) %}c{{ p }}{% endcall %}", "[<Ab 1 é>c<Ab 1 é>]"},
        OriginCase{"{{ p if true else t }}{{ p and t }}{{ [p] | first }}{{ [p, t] | last }}{{ [p] | map('upper') | join }}",
                   "<Ab 1 é>t<Ab 1 é>t<AB 1 É>"},
        OriginCase{"{{ p.splitlines()[0] }}{{ p.zfill(8) }}{{ p.removeprefix('A') }}{{ p.ljust(7, '.') }}",
                   "<Ab 1 é>00<Ab 1 éb 1 éAb 1 é>."},
        OriginCase{"{{ p == 'Ab 1 é' }}{{ p | length }}{{ p.find('1') }}{{ 'b' in p }}", "True63True"}));

struct LimitCase {
  const char *source, *word;
};
class Limited : public ::testing::TestWithParam<LimitCase> {};

TEST_P(Limited, is_refused_by_the_limit_s_name) {
  EXPECT_THAT(error_of(GetParam().source), HasSubstr(GetParam().word)) << GetParam().source;
}

INSTANTIATE_TEST_SUITE_P(
    jinja, Limited,
    ::testing::Values(
        LimitCase{"{% for i in range(1000000000) %}{% endfor %}", "more than 100000 items"},
        LimitCase{"{{ range(-9223372036854775807, 9223372036854775807) }}", "more than 100000 items"},
        LimitCase{"{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}", "steps"},
        LimitCase{"{% for i in range(100000) %}{{ 'x' * 1000 }}{% endfor %}", "steps"},
        LimitCase{"{{ 'x' * 10000000000 }}", "bytes of values"}, LimitCase{"{{ ('x' * 9223372036854775807)[0] }}", "bytes of values"},
        LimitCase{"{{ [1] * 10000000000 }}", "bytes of values"}, LimitCase{"{{ [1] | batch(10000000000, 0) | list }}", "bytes of values"},
        LimitCase{"{{ ('x,' * 1000000).split(',') }}", "bytes of values"}, LimitCase{"{{ ('x ' * 1000000).split() }}", "bytes of values"},
        LimitCase{"{{ ('x\\n' * 1000000).splitlines() }}", "bytes of values"},
        LimitCase{"{{ ('x' * 1000000).replace('x', 'y' * 1000) }}", "bytes of values"},
        LimitCase{"{{ ('x' * 1000000) | replace('', 'y' * 1000) | length }}", "bytes of values"},
        LimitCase{"{{ ('y' * 1000000).join(['a'] * 1000) }}", "bytes of values"},
        LimitCase{"{{ 'a'.center(10000000000) }}", "bytes of values"}, LimitCase{"{{ 'a'.zfill(10000000000) }}", "bytes of values"},
        LimitCase{"{{ '%1000000000d' % 1 }}", "width is more than 4096"},
        LimitCase{"{{ '%.1000000000f' % 1 }}", "precision is more than 200"},
        LimitCase{"{{ 'a' | indent(10000000000, true) }}", "bytes of values"},
        LimitCase{"{{ [1] | tojson(indent=10000000000) }}", "bytes of values"},
        LimitCase{"{% set ns = namespace(x='x') %}{% for i in range(100) %}{% set ns.x = ns.x + ns.x %}{% endfor %}", "bytes of values"},
        LimitCase{"{% set ns = namespace(x=[]) %}{% for i in range(1000) %}{% set ns.x = [ns.x] %}{% endfor %}",
                  "nested more than 100 levels"},
        LimitCase{"{% set ns = namespace(x=[]) %}{% for i in range(90) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}",
                  "steps"},
        LimitCase{"{% set ns = namespace(x=[], y=[]) %}{% for i in range(90) %}{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] "
                  "%}{% endfor %}"
                  "{{ ns.x == ns.y }}",
                  "steps"},
        LimitCase{"{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "levels"},
        LimitCase{
            "{% macro f() %}{% if true %}{% for i in [1] %}{{ caller() }}{% call f() %}{% endcall %}{% endfor %}{% endif %}{% endmacro %}"
            "{% call f() %}{{ 1 }}{% endcall %}",
            "levels"},
        LimitCase{"{% macro f(x=f()) %}{% endmacro %}{{ f() }}", "levels"},
        LimitCase{"{% for i in range(10000) %}{{ range(10000) | list | join(',') | length }}{% endfor %}", "steps"},
        LimitCase{"{% for i in range(10000) %}{% if 'b' in 'a' * 1000000 %}{% endif %}{% endfor %}", "steps"},
        LimitCase{"{{ 2 ** 64 }}", "64 bits"}, LimitCase{"{{ 9223372036854775807 + 1 }}", "64 bits"}));

TEST(jinja, gives_no_more_text_than_its_limit) {
  Limits limits;
  limits.output_bytes = 10;
  EXPECT_EQ(render("{{ 'x' * 10 }}", limits).bytes(), "xxxxxxxxxx");
  EXPECT_THAT(error_of("{{ 'x' * 11 }}", limits), HasSubstr("more than 10 bytes"));
}

TEST(jinja, counts_the_same_every_time) {
  const std::string source = "{% for i in range(50) %}{{ i ~ p | upper }}{% endfor %}";
  const auto fits = [&](size_t steps) {
    Limits limits;
    limits.steps = steps;
    return error_of(source, limits).empty();
  };
  size_t least = 1;
  while (!fits(least)) ++least;
  EXPECT_GT(least, 200u);
  for (int again = 0; again < 3; ++again) EXPECT_FALSE(fits(least - 1)) << least;
}

TEST(jinja, a_source_is_nested_to_its_limit_and_no_deeper) {
  const auto repeat = [](std::string_view text, size_t times) {
    std::string all;
    while (times-- > 0) all += text;
    return all;
  };
  const std::vector<std::pair<std::string, std::string>> around{
      {"(", ")"},  {"[", "]"}, {"{1:", "}"},         {"-", ""},        {"not ", ""}, {"1+", ""}, {"", ".x"}, {"", "|e"},
      {"", "[0]"}, {"", "()"}, {"1 if 1 else ", ""}, {"1 is eq ", ""}, {"a or ", ""}};
  for (const auto& [open, close] : around)
    for (const size_t times : {100'000u, 1'000u, 300u}) {
      const std::string source = "{{ " + repeat(open, times).substr(0, kMostSourceBytes / 3) + "1" + repeat(close, times) + " }}";
      EXPECT_THAT(error_of<FileError>(source), HasSubstr("nested more than 200 levels")) << open << close << times;
    }
  EXPECT_THAT(error_of<FileError>(repeat("{% if 1 %}", 1000) + repeat("{% endif %}", 1000)), HasSubstr("nested more than 200 levels"));
  EXPECT_THAT(error_of<FileError>(repeat("{% for i in [1] %}", 1000)), HasSubstr("nested more than 200 levels"));
  EXPECT_EQ(render(repeat("{% if 1 %}", 150) + "x" + repeat("{% endif %}", 150)).bytes(), "x");
  EXPECT_EQ(render("{{ " + repeat("(", 60) + "1" + repeat(")", 60) + " }}").bytes(), "1");
  EXPECT_EQ(render("{{ " + repeat("1+", 150) + "1 }}").bytes(), "151");
}

TEST(jinja, errors_name_their_place) {
  EXPECT_THAT(error_of<FileError>("a\nb\n  {{ p | frob }}"), "chat template, line 3, column 10: the filter \"frob\" is not supported");
  EXPECT_THAT(error_of<FileError>("é {{ p is frob }}"), "chat template, line 1, column 11: the test \"frob\" is not supported");
  EXPECT_THAT(error_of<FileError>("\n{% frob %}"), "chat template, line 2, column 4: the tag \"frob\" is not supported");
  EXPECT_THAT(error_of<FileError>("{{ 'a }}"), HasSubstr("line 1, column 4: the string has no end"));
  EXPECT_THAT(error_of<FileError>("x{# y"), HasSubstr("line 1, column 2: the comment has no end"));
  EXPECT_THAT(error_of<FileError>("{% raw %}x"), HasSubstr("line 1, column 1: the raw block has no end"));
  EXPECT_THAT(error_of<FileError>("{% if p %}\nx"), HasSubstr("line 2, column 2: 'endif' is expected, not the template's end"));
  EXPECT_THAT(error_of<FileError>("{{ 1 + }}"), HasSubstr("line 1, column 8: an expression is expected, not the tag's end"));
  EXPECT_THAT(error_of<FileError>("\xff"), HasSubstr("not valid UTF-8 at byte 0"));
  EXPECT_THAT(error_of<FileError>("{{ " + std::string(kMostSourceBytes, ' ') + "}}"), HasSubstr("at most 1048576"));
  EXPECT_THAT(error_of("{{\n p.x.y }}"), AllOf(HasSubstr("line 2, column 6"), HasSubstr("has no attribute \"x\"")));
  EXPECT_THAT(error_of("{{ q + 1 }}"), HasSubstr("line 1, column 6: 'q' is undefined"));
  EXPECT_THAT(error_of("{{ p | upper(1) }}"), HasSubstr("the filter upper: 1 arguments are given"));
  EXPECT_THAT(error_of("{{ p.swapcase() }}"), HasSubstr("the method swapcase: is not supported"));
  EXPECT_THAT(error_of("{{ data.pop('k') }}"), HasSubstr("the sandbox lets nothing change a dict"));
  EXPECT_THAT(error_of("{{ 1 + 'a' }}"), HasSubstr("unsupported operand types for +: int and str"));
}

TEST(jinja, the_template_s_own_exception_has_its_words_and_type) {
  EXPECT_EQ(error_of<RaisedException>("{{ raise_exception('roles must ' ~ 'alternate') }}"), "roles must alternate");
}

TEST(jinja, what_outlives_its_place_is_refused) {
  EXPECT_THAT(error_of("{% set ns = namespace() %}{% for i in [1] %}{% set ns.l = loop %}{% endfor %}{{ ns.l.index }}"),
              HasSubstr("the loop has ended"));
  EXPECT_THAT(error_of("{% set ns = namespace() %}{% for i in [1] %}{% set ns.c = loop.cycle %}{% endfor %}{{ ns.c(1) }}"),
              HasSubstr("the loop has ended"));
  EXPECT_THAT(
      error_of(
          "{% set ns = namespace() %}{% for i in [1] %}{% macro m() %}{{ i }}{% endmacro %}{% set ns.m = m %}{% endfor %}{{ ns.m() }}"),
      HasSubstr("outside of where it is defined"));
  EXPECT_EQ(
      render("{% set ns = namespace() %}{% set ns.self = ns %}{% for i in [1] %}{{ loop.changed([loop.changed]) }}{% endfor %}").bytes(),
      "True");
}

TEST(chat_template, refuses_messages_that_are_none) {
  const ChatTemplate chat("{{ messages[0].content }}", "chat template", {});
  const auto error = [&](Value messages) {
    try {
      chat.render({.messages = std::move(messages)});
    } catch (const std::invalid_argument& refused) {
      return std::string(refused.what());
    }
    return std::string();
  };
  EXPECT_THAT(error(Value::none()), HasSubstr("the messages are NoneType; must be a list"));
  EXPECT_THAT(error(Value::list({}, true)), HasSubstr("there is no message"));
  EXPECT_THAT(error(Value::list({Value::none()}, true)), HasSubstr("message 1 is NoneType"));
  EXPECT_EQ(error(Value::list({chat_message("user", "x", Origin::person)}, true)), "");
}

}  // namespace
}  // namespace tessera::jinja
