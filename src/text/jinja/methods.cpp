// The methods of str, list and dict.
#include <algorithm>
#include <array>
#include <limits>

#include "text/fields.h"
#include "text/jinja/builtins.h"
#include "text/jinja/characters.h"
#include "text/jinja/python.h"
#include "text/jinja/strings.h"
#include "text/utf8.h"

namespace tessera::jinja {
namespace {

struct Method {
  std::string_view name;
  Builtin call;
};

const Text& self(const Call& call) { return *call.subject.text(); }

Value text_list(Meter& meter, const Text& text, const std::vector<Slice>& parts, List::Type type = List::Type::list) {
  std::vector<Value> items;
  for (const Slice& part : parts) items.push_back(make_text(meter, text.part(part.begin, part.end)));
  return make_list(meter, type, std::move(items), text.has_person());
}

// --- str

Value strip(Call& call, Side side) {
  const Value* given = call.take("chars");
  call.finish();
  if (given && !given->is_none() && !given->text()) call.refuse("the characters are ", given->type(), ", no text");
  return stripped(call.meter, self(call), given && given->text() ? std::optional(given->text()->view()) : std::nullopt, side);
}

Value split(Call& call, bool from_right) {
  const Value* separator = call.take("sep");
  const int64_t most = call.integer("maxsplit", -1);
  call.finish();
  if (separator && !separator->is_none() && !separator->text()) call.refuse("the separator is ", separator->type(), ", no text");
  std::optional<std::string_view> between;
  if (separator && separator->text()) between = separator->text()->view();
  if (between && between->empty()) call.refuse("the separator is empty");
  const size_t limit = most < 0 ? std::numeric_limits<size_t>::max() : static_cast<size_t>(most);
  return text_list(call.meter, self(call), split_text(call.meter, self(call).view(), between, limit, from_right));
}

Value partition(Call& call, bool from_right) {
  const Text separator = call.string("sep", "");
  call.finish();
  if (separator.empty()) call.refuse("the separator is empty");
  const Text& text = self(call);
  const size_t found = from_right ? text.view().rfind(separator.view()) : text.view().find(separator.view());
  const size_t end = text.size(), behind = found + separator.size();
  if (found != std::string_view::npos) return text_list(call.meter, text, {{0, found}, {found, behind}, {behind, end}}, List::Type::tuple);
  if (from_right) return text_list(call.meter, text, {{0, 0}, {0, 0}, {0, end}}, List::Type::tuple);
  return text_list(call.meter, text, {{0, end}, {0, 0}, {0, 0}}, List::Type::tuple);
}

// startswith, endswith: a text, or a tuple of texts of which one does.
Value has_edge(Call& call, bool (*matches)(std::string_view, std::string_view)) {
  const Value wanted = call.required("prefix");
  const bool has_bounds = !call.rest().empty();
  call.finish();
  if (has_bounds) call.refuse("a start and an end are not supported");
  const auto one = [&](const Value& edge) {
    if (!edge.text()) call.refuse("the text to look for is ", edge.type());
    return matches(self(call).view(), edge.text()->view());
  };
  const List* several = wanted.list();
  if (!several || several->type != List::Type::tuple) return Value(one(wanted));
  return Value(std::any_of(several->items.begin(), several->items.end(), one));
}

Value remove_edge(Call& call, bool at_end) {
  const Text edge = call.string("prefix", "");
  call.finish();
  const Text& text = self(call);
  if (at_end && text.view().ends_with(edge.view())) return make_text(call.meter, text.part(0, text.size() - edge.size()));
  if (!at_end && text.view().starts_with(edge.view())) return make_text(call.meter, text.part(edge.size(), text.size()));
  return call.subject;
}

Value find_text(Call& call, bool from_right, bool must_be_there) {
  const Text wanted = call.string("sub", "");
  const bool has_bounds = !call.rest().empty();
  call.finish();
  if (has_bounds) call.refuse("a start and an end are not supported");
  const std::string_view text = self(call).view();
  call.meter.spend_for(text.size());
  const size_t found = from_right ? text.rfind(wanted.view()) : text.find(wanted.view());
  if (found == text.npos && must_be_there) call.refuse("the text is not there");
  return Value(found == text.npos ? int64_t{-1} : static_cast<int64_t>(count_characters(text.substr(0, found))));
}

Value count_text(Call& call) {
  const Text wanted = call.string("sub", "");
  call.finish();
  const std::string_view text = self(call).view();
  if (wanted.empty()) return Value(static_cast<int64_t>(count_characters(text)) + 1);
  call.meter.spend_for(text.size());
  int64_t count = 0;
  for (size_t at = 0; (at = text.find(wanted.view(), at)) != text.npos; at += wanted.size()) ++count;
  return Value(count);
}

Value replace(Call& call) {
  const Text old = call.string("old", ""), fresh = call.string("new", "");
  const int64_t most = call.integer("count", -1);
  call.finish();
  return replaced(call.meter, self(call), old.view(), fresh, most);
}

Value join(Call& call) {
  const Value items = call.required("iterable");
  call.finish();
  Builder out(call.meter);
  bool first = true;
  for (const Value& item : iterate(call.meter, items)->items) {
    if (!item.text()) call.refuse("an item is ", item.type(), ", no text");
    if (!std::exchange(first, false)) out.append(self(call));
    out.append(*item.text());
  }
  return out.finish();
}

Value format(Call& call) {
  Arguments given{call.rest(), call.rest_named()};
  return brace_format(call.meter, self(call), given);
}

Value splitlines(Call& call) {
  const bool keeps = call.flag("keepends", false);
  call.finish();
  return text_list(call.meter, self(call), split_lines(call.meter, self(call).view(), keeps));
}

Value zfill(Call& call) {
  const int64_t width = call.integer("width", 0);
  call.finish();
  const Text& text = self(call);
  const size_t sign = text.view().starts_with('+') || text.view().starts_with('-');
  const auto count = static_cast<int64_t>(count_characters(text.view()));
  call.meter.expect(1, static_cast<size_t>(std::max<int64_t>(width - count, 0)));
  Builder out(call.meter);
  out.append(text, 0, sign);
  for (int64_t i = count; i < width; ++i) out.append("0", Origin::template_text);
  out.append(text, sign, text.size());
  return out.finish();
}

template <Value (*Convert)(Meter&, const Text&)>
Value convert(Call& call) {
  call.finish();
  return Convert(call.meter, self(call));
}

Value justify(Call& call, Align align) {
  const int64_t width = call.integer("width", 0);
  const Text fill = call.string("fillchar", " ");
  call.finish();
  return aligned(call.meter, self(call), width, fill, align);
}

// Every character is of a kind, and there is one.
template <bool (*Is)(char32_t)>
Value all_are(Call& call) {
  call.finish();
  std::string_view text = self(call).view();
  if (text.empty()) return Value(false);
  for (call.meter.spend_for(text.size()); !text.empty();) {
    const text::Utf8Character c = text::first_character(text);
    if (!Is(c.code_point)) return Value(false);
    text.remove_prefix(c.bytes);
  }
  return Value(true);
}

bool is_letter_or_digit(char32_t c) { return is_letter(c) || is_digit(c); }
bool is_ascii(char32_t c) { return c < 0x80; }

template <Case kCase>
Value is_case(Call& call) {
  call.finish();
  call.meter.spend_for(self(call).size());
  return Value(is_in_case(self(call).view(), kCase));
}

const std::array kTextMethods{
    Method{"strip", [](Call& call) { return strip(call, Side::both); }},
    Method{"lstrip", [](Call& call) { return strip(call, Side::left); }},
    Method{"rstrip", [](Call& call) { return strip(call, Side::right); }},
    Method{"split", [](Call& call) { return split(call, false); }},
    Method{"rsplit", [](Call& call) { return split(call, true); }},
    Method{"partition", [](Call& call) { return partition(call, false); }},
    Method{"rpartition", [](Call& call) { return partition(call, true); }},
    Method{"startswith",
           [](Call& call) { return has_edge(call, [](std::string_view text, std::string_view edge) { return text.starts_with(edge); }); }},
    Method{"endswith",
           [](Call& call) { return has_edge(call, [](std::string_view text, std::string_view edge) { return text.ends_with(edge); }); }},
    Method{"removeprefix", [](Call& call) { return remove_edge(call, false); }},
    Method{"removesuffix", [](Call& call) { return remove_edge(call, true); }},
    Method{"find", [](Call& call) { return find_text(call, false, false); }},
    Method{"rfind", [](Call& call) { return find_text(call, true, false); }},
    Method{"index", [](Call& call) { return find_text(call, false, true); }},
    Method{"rindex", [](Call& call) { return find_text(call, true, true); }},
    Method{"count", count_text},
    Method{"replace", replace},
    Method{"join", join},
    Method{"format", format},
    Method{"splitlines", splitlines},
    Method{"zfill", zfill},
    Method{"upper", convert<uppered>},
    Method{"lower", convert<lowered>},
    Method{"title", convert<titled>},
    Method{"capitalize", convert<capitalized>},
    Method{"center", [](Call& call) { return justify(call, Align::center); }},
    Method{"ljust", [](Call& call) { return justify(call, Align::left); }},
    Method{"rjust", [](Call& call) { return justify(call, Align::right); }},
    Method{"isspace", all_are<is_space>},
    Method{"isalpha", all_are<is_letter>},
    Method{"isdigit", all_are<is_digit>},
    Method{"isdecimal", all_are<is_digit>},
    Method{"isnumeric", all_are<is_digit>},
    Method{"isalnum", all_are<is_letter_or_digit>},
    Method{"isascii", all_are<is_ascii>},
    Method{"islower", is_case<Case::lower>},
    Method{"isupper", is_case<Case::upper>},
};

// --- list, tuple, range

Value index_of(Call& call) {
  const Value wanted = call.required("value");
  call.finish();
  const std::vector<Value>& items = call.subject.list()->items;
  for (size_t i = 0; i < items.size(); ++i)
    if (equal(call.meter, items[i], wanted)) return Value(static_cast<int64_t>(i));
  call.refuse("the value is not in the list");
}

Value count_items(Call& call) {
  const Value wanted = call.required("value");
  call.finish();
  const std::vector<Value>& items = call.subject.list()->items;
  return Value(
      static_cast<int64_t>(std::count_if(items.begin(), items.end(), [&](const Value& item) { return equal(call.meter, item, wanted); })));
}

Value copy(Call& call) {
  call.finish();
  return call.subject;  // nothing can change either
}

const std::array kListMethods{Method{"index", index_of}, Method{"count", count_items}, Method{"copy", copy}};

// --- dict

Value get(Call& call) {
  const Value key = call.required("key");
  const Value* otherwise = call.take("default");
  call.finish();
  if (const Value* found = find(call.meter, *call.subject.dict(), key)) return *found;
  return otherwise ? *otherwise : Value::none();
}

Value view(Call& call, List::Type type) {
  call.finish();
  std::vector<Value> items;
  for (const auto& [key, value] : call.subject.dict()->items) {
    if (type == List::Type::items) {
      items.push_back(make_list(call.meter, List::Type::tuple, {key, value}, call.subject.person));
    } else {
      items.push_back(type == List::Type::keys ? key : value);
    }
  }
  return make_list(call.meter, type, std::move(items), call.subject.person);
}

const std::array kDictMethods{
    Method{"get", get},
    Method{"items", [](Call& call) { return view(call, List::Type::items); }},
    Method{"keys", [](Call& call) { return view(call, List::Type::keys); }},
    Method{"values", [](Call& call) { return view(call, List::Type::values); }},
    Method{"copy", copy},
};

// What Python has beside these: the sandbox forbids those that change their object, others are not supported.
constexpr std::array kChanging{std::string_view("append"),  std::string_view("clear"), std::string_view("extend"),
                               std::string_view("insert"),  std::string_view("pop"),   std::string_view("remove"),
                               std::string_view("reverse"), std::string_view("sort")};
constexpr std::array kDictChanging{std::string_view("clear"), std::string_view("pop"), std::string_view("popitem"),
                                   std::string_view("setdefault"), std::string_view("update")};
constexpr std::array kMissing{std::string_view("casefold"),   std::string_view("encode"),       std::string_view("expandtabs"),
                              std::string_view("format_map"), std::string_view("isidentifier"), std::string_view("isprintable"),
                              std::string_view("istitle"),    std::string_view("maketrans"),    std::string_view("swapcase"),
                              std::string_view("translate")};

template <class Names>
bool has(const Names& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

template <class Methods>
Builtin find_in(const Methods& methods, std::string_view name) {
  for (const Method& method : methods)
    if (method.name == name) return method.call;
  return nullptr;
}

Value bound(Meter& meter, const Value& value, std::string_view name, Builtin method) {
  return make_function(
      meter, std::string(name),
      [value, method, name = std::string(name)](Call& call) {
        if (value.markup) call.refuse("methods of a text that is marked safe are not supported");
        Arguments arguments{call.rest(), call.rest_named()};
        Call of_value(call.interpreter, "method", name, value, std::move(arguments));
        return method(of_value);
      },
      value.levels() + 1);
}

}  // namespace

std::optional<Value> find_method(Meter& meter, const Value& value, std::string_view name) {
  const List* list = value.list();
  const bool is_list = list && list->type == List::Type::list;
  const bool is_sequence = is_list || (list && (list->type == List::Type::tuple || list->type == List::Type::range));
  if ((is_list && has(kChanging, name)) || (value.dict() && has(kDictChanging, name)))
    return Value::undefined(message("the sandbox lets nothing change a ", value.type(), ": ", name, " is not allowed"));
  Builtin method = nullptr;
  if (value.text()) method = find_in(kTextMethods, name);
  if (is_sequence && (is_list || name != "copy")) method = find_in(kListMethods, name);
  if (value.dict()) method = find_in(kDictMethods, name);
  if (!method && ((value.text() && has(kMissing, name)) || (value.dict() && name == "fromkeys")))
    method = [](Call& call) -> Value { call.refuse("is not supported"); };
  if (!method) return std::nullopt;
  return bound(meter, value, name, method);
}

}  // namespace tessera::jinja
