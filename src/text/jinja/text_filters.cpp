#include "text/jinja/text_filters.h"

#include <algorithm>

#include "text/fields.h"
#include "text/jinja/characters.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/python.h"
#include "text/utf8.h"

namespace tessera::jinja::filters {

// Each part behind white space, a hyphen or an opening bracket begins large.
Value title(Call& call) {
  call.finish();
  const Value subject = to_text(call.meter, call.subject);
  const Text& text = *subject.text();
  Builder out(call.meter);
  bool begins = true;
  for (size_t at = 0; at < text.size();) {
    const text::Utf8Character c = text::first_character(text.view().substr(at));
    const bool is_border =
        is_space(c.code_point) ||
        (c.code_point < 0x80 && std::string_view("-({[<").find(static_cast<char>(c.code_point)) != std::string_view::npos);
    out.append(in_case(c.code_point, is_border || begins ? Case::upper : Case::lower), text.origin_at(at));
    begins = is_border;
    at += c.bytes;
  }
  return out.finish();
}

Value trim(Call& call) {
  const Value* given = call.take("chars");
  call.finish();
  if (given && !given->is_none() && !given->text()) call.refuse("the characters are ", given->type(), ", no text");
  const Value text = to_text(call.meter, call.subject);
  return stripped(call.meter, *text.text(), given && given->text() ? std::optional(given->text()->view()) : std::nullopt, Side::both);
}

Value replace(Call& call) {
  const Value old = to_text(call.meter, call.required("old")), fresh = to_text(call.meter, call.required("new"));
  const Value* count = call.take("count");
  call.finish();
  if (count && !count->is_none() && !count->integer()) call.refuse("the count is ", count->type(), ", no integer");
  const Value text = to_text(call.meter, call.subject);
  return replaced(call.meter, *text.text(), old.text()->view(), *fresh.text(), count && count->integer() ? *count->integer() : -1);
}

Value string(Call& call) {
  call.finish();
  return to_text(call.meter, call.subject);
}

Value safe(Call& call) {
  call.finish();
  Value text = to_text(call.meter, call.subject);
  text.markup = true;
  return text;
}

Value escape(Call& call) {
  call.finish();
  const Value text = to_text(call.meter, call.subject);
  return text.markup ? text : escape_html(call.meter, *text.text());
}

Value center(Call& call) {
  const int64_t width = call.integer("width", 80);
  call.finish();
  const Value text = to_text(call.meter, call.subject);
  return aligned(call.meter, *text.text(), width, Text(" ", Origin::template_text), Align::center);
}

Value indent(Call& call) {
  const Value* width = call.take("width");
  const bool first = call.flag("first", false), blank = call.flag("blank", false);
  call.finish();
  if (!call.subject.text()) call.refuse("takes a text, not ", call.subject.type());
  Text margin("    ", Origin::template_text);
  if (width && width->text()) {
    margin = *width->text();
  } else if (width) {
    if (!width->integer()) call.refuse("the width is ", width->type(), ", no integer");
    const Value spaces = arithmetic(call.meter, "*", Value::text(" ", Origin::template_text), *width);
    margin = *spaces.text();
  }
  const Text& text = *call.subject.text();
  Builder out(call.meter);
  std::vector<Slice> lines = split_lines(call.meter, text.view(), false);
  const bool ends_line = split_lines(call.meter, text.bytes() + "x", false).size() > lines.size();
  if (ends_line) lines.push_back({text.size(), text.size()});
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out.append("\n", Origin::template_text);
    if (i == 0 ? first : blank || lines[i].begin < lines[i].end) out.append(margin);
    out.append(text, lines[i].begin, lines[i].end);
  }
  return out.finish();
}

Value truncate(Call& call) {
  const int64_t length = call.integer("length", 255);
  const bool kills_words = call.flag("killwords", false);
  const Text end = call.string("end", "...");
  const int64_t leeway = call.integer("leeway", 5);
  call.finish();
  if (!call.subject.text()) call.refuse("takes a text, not ", call.subject.type());
  const Text& text = *call.subject.text();
  const auto kept = length - static_cast<int64_t>(count_characters(end.view()));
  if (kept < 0 || leeway < 0) call.refuse("the length is less than the end's");
  const auto count = static_cast<int64_t>(count_characters(text.view()));
  if (count - leeway <= length) return call.subject;
  size_t bytes = byte_of(text.view(), kept);
  if (const size_t space = text.view().substr(0, bytes).rfind(' '); !kills_words && space != std::string_view::npos) bytes = space;
  Builder out(call.meter);
  out.append(text, 0, bytes);
  out.append(end);
  return out.finish();
}

Value format(Call& call) {
  std::vector<Value> values = call.rest();
  std::vector<std::pair<Value, Value>> named;
  for (auto& [name, value] : call.rest_named()) named.emplace_back(Value::text(name, Origin::template_text), value);
  if (!values.empty() && !named.empty()) call.refuse("takes values by place or by name, not both");
  const Value text = to_text(call.meter, call.subject);
  const Value given =
      named.empty() ? make_list(call.meter, List::Type::tuple, std::move(values), false) : make_dict(call.meter, std::move(named), false);
  return percent_format(call.meter, *text.text(), given);
}

Value wordcount(Call& call) {
  call.finish();
  const Value text = to_text(call.meter, call.subject);
  size_t words = 0;
  bool in_word = false;
  for (size_t at = 0; at < text.text()->size();) {
    const text::Utf8Character c = text::first_character(text.text()->view().substr(at));
    const bool is_word = is_letter(c.code_point) || is_digit(c.code_point) || c.code_point == '_';
    words += is_word && !in_word;
    in_word = is_word;
    at += c.bytes;
  }
  call.meter.spend_for(text.text()->size());
  return Value(static_cast<int64_t>(words));
}

Value tojson(Call& call) {
  JsonOptions options;
  options.ensure_ascii = call.flag("ensure_ascii", false);
  const Value* indent = call.take("indent");
  const Value* separators = call.take("separators");
  options.sort_keys = call.flag("sort_keys", false);
  call.finish();
  if (indent && indent->text()) {
    options.indent = *indent->text();
  } else if (indent && !indent->is_none()) {
    if (!indent->integer()) call.refuse("the indent is ", indent->type(), ", no integer");
    const Value spaces = arithmetic(call.meter, "*", Value::text(" ", Origin::template_text), *indent);
    options.indent = *spaces.text();
  }
  if (options.indent) options.item_separator = Text(",", Origin::template_text);
  if (separators && !separators->is_none()) {
    const List* both = separators->list();
    if (!both || both->items.size() != 2 || !both->items[0].text() || !both->items[1].text())
      call.refuse("the separators must be two texts");
    options.item_separator = *both->items[0].text();
    options.key_separator = *both->items[1].text();
  }
  Builder out(call.meter);
  append_json(out, call.subject, options);
  return out.finish();
}

}  // namespace tessera::jinja::filters
