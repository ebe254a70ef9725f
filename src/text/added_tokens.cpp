#include "text/added_tokens.h"

#include <algorithm>

#include "text/regex.h"
#include "text/utf8.h"

namespace tessera::text {
namespace {

constexpr size_t kMostTokens = size_t{1} << 18;

// Unicode's word characters, as the `tokenizers` library means them for single_word.
const Regex& word_character() {
  static const Regex regex(
      "[\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{200C}\\x{200D}\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{"
      "1F189}]",
      "built-in pattern");
  return regex;
}

size_t last_character(std::string_view text, size_t end) {
  size_t at = end - 1;
  while ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  return at;
}

bool is_word_at(std::string_view text, size_t at) { return !word_character().matches(text.substr(at, utf8_length(text[at]))).empty(); }

bool stands_alone(std::string_view text, Range range) {
  return (range.begin == 0 || !is_word_at(text, last_character(text, range.begin))) &&
         (range.end == text.size() || !is_word_at(text, range.end));
}

size_t skip_space_before(std::string_view text, size_t at, size_t least) {
  while (at > least) {
    const size_t last = last_character(text, at);
    if (last < least || !is_white_space(first_character(text.substr(last)).code_point)) break;
    at = last;
  }
  return at;
}

size_t skip_space_after(std::string_view text, size_t at) {
  while (at < text.size()) {
    const Utf8Character character = first_character(text.substr(at));
    if (!is_white_space(character.code_point)) break;
    at += character.bytes;
  }
  return at;
}

AddedToken read_token(const Fields& fields) {
  fields.allow({"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
  AddedToken token{static_cast<TokenId>(fields.integer("id", 0, Vocabulary::kLargestId)),
                   std::string(fields.text("content", kLongestLiteral)),
                   fields.flag("single_word"),
                   fields.flag("lstrip"),
                   fields.flag("rstrip"),
                   fields.flag("normalized"),
                   fields.flag("special")};
  if (token.content.empty()) fields.refuse("content", "must not be empty");
  return token;
}

// The text between tokens, made segments of its own.
std::vector<Segment> with_text_between(const std::vector<Segment>& tokens, size_t begin, size_t end) {
  std::vector<Segment> segments;
  for (const Segment& token : tokens) {
    if (begin < token.range.begin) segments.push_back({{begin, token.range.begin}, kNoToken});
    segments.push_back(token);
    begin = token.range.end;
  }
  if (begin < end) segments.push_back({{begin, end}, kNoToken});
  return segments;
}

}  // namespace

void LongestMatch::finish() {
  std::stable_sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) { return a.text < b.text; });
  const auto same = [](const Entry& a, const Entry& b) { return a.text == b.text; };
  entries_.erase(std::unique(entries_.begin(), entries_.end(), same), entries_.end());
  for (const Entry& entry : entries_) ++first_of_byte_[static_cast<unsigned char>(entry.text[0]) + 1];
  for (size_t byte = 0; byte < 256; ++byte) first_of_byte_[byte + 1] += first_of_byte_[byte];
}

const AddedToken* LongestMatch::find(std::string_view text, size_t at, size_t end, size_t& bytes, const std::vector<bool>* only) const {
  const auto byte = static_cast<unsigned char>(text[at]);
  auto low = entries_.begin() + first_of_byte_[byte], high = entries_.begin() + first_of_byte_[byte + 1];
  const AddedToken* longest = nullptr;
  for (size_t depth = 1; low != high; ++depth) {  // [low, high) agree with the text in their first `depth` bytes
    if (low->text.size() == depth) {
      if (!only || (*only)[low->token->id]) {
        longest = low->token;
        bytes = depth;
      }
      ++low;
    }
    if (at + depth == end) break;
    const auto next = static_cast<unsigned char>(text[at + depth]);
    const auto byte_of = [&](const Entry& entry) { return static_cast<unsigned char>(entry.text[depth]); };
    low = std::partition_point(low, high, [&](const Entry& entry) { return byte_of(entry) < next; });
    high = std::partition_point(low, high, [&](const Entry& entry) { return byte_of(entry) == next; });
  }
  return longest;
}

AddedTokens::AddedTokens(const Fields& root, const Vocabulary& model, const Normalizer& normalizer) {
  std::vector<const AddedToken*> in_order;
  root.each_object("added_tokens", kMostTokens, [&](const Fields& fields) {
    const AddedToken token = read_token(fields);
    const TokenId in_model = model.find(token.content);
    const TokenId next = std::max(end_id_, static_cast<TokenId>(model.size()));
    if (!ids_.emplace(token.content, token.id).second) fields.refuse("content", quoted(token.content), " stands twice");
    if (in_model != kNoToken && in_model != token.id)
      fields.refuse("id", "is ", token.id, ", but the vocabulary gives ", quoted(token.content), " the id ", in_model);
    if (in_model == kNoToken && (token.id != next || model.has(token.id)))
      fields.refuse("id", "is ", token.id, ", but ", quoted(token.content), " is not in the vocabulary and the next free id is ", next);
    end_id_ = std::max(end_id_, token.id + 1);
    in_order.push_back(&tokens_.emplace(token.id, token).first->second);
  });
  for (const AddedToken* token : in_order) {
    contents_.add(token->content, token);
    if (!token->normalized) raw_.add(token->content, token);
    if (!token->normalized) continue;
    const std::string normal_form = normalizer(token->content);
    check<FileError>(!normal_form.empty(), root.path_of("added_tokens"), ": the normalizer leaves nothing of the token ",
                     quoted(token->content));
    normalized_.add(normal_form, token);
  }
  for (LongestMatch* set : {&raw_, &contents_, &normalized_}) set->finish();
}

const AddedToken* AddedTokens::find(TokenId id) const {
  const auto token = tokens_.find(id);
  return token == tokens_.end() ? nullptr : &token->second;
}

const AddedToken* AddedTokens::find(std::string_view content) const {
  const auto id = ids_.find(std::string(content));
  return id == ids_.end() ? nullptr : find(id->second);
}

// Appends the tokens of `set` that lie within a part of the text: all, the control tokens, or the others, where a control token is passed
// over as a whole.
void AddedTokens::scan(const LongestMatch& set, std::string_view text, Range within, Wanted wanted, const std::vector<bool>& controls,
                       std::vector<Segment>& tokens) {
  size_t taken = within.begin;  // what lies before belongs to earlier tokens
  Range space{0, 0};            // the last white space that was swallowed: white space tokens within it don't search its end again
  for (size_t at = within.begin; at < within.end;) {
    size_t bytes = 0;
    const AddedToken* token = set.find(text, at, within.end, bytes, wanted == Wanted::controls ? &controls : nullptr);
    if (!token) {
      ++at;
      continue;
    }
    Range range{at, at + bytes};
    at = range.end;
    const bool is_wanted = wanted != Wanted::others || !controls[token->id];
    if (!is_wanted || (token->single_word && !stands_alone(text, range))) continue;
    if (token->lstrip) range.begin = skip_space_before(text, range.begin, std::min(taken, range.begin));
    if (token->rstrip) {
      if (range.end < space.begin || range.end > space.end) space = {range.end, skip_space_after(text, range.end)};
      range.end = space.end;
    }
    tokens.push_back({range, token->id});
    taken = range.end;
  }
}

std::vector<bool> AddedTokens::controls(std::span<const std::string_view> texts, size_t size) const {
  std::vector<bool> controls(size);
  for (const auto& [id, token] : tokens_) {
    const auto stands_in = [&content = token.content](std::string_view text) { return text.find(content) != text.npos; };
    const bool is_space = skip_space_after(token.content, 0) == token.content.size();
    controls[id] = token.special || (!is_space && std::any_of(texts.begin(), texts.end(), stands_in));
  }
  return controls;
}

std::vector<Segment> AddedTokens::cut(std::string_view text, std::span<const Range> parsed, const std::vector<bool>& controls) const {
  std::vector<Segment> tokens;
  const bool is_wholly_parsed = parsed.size() == 1 && parsed[0].begin == 0 && parsed[0].end == text.size();
  if (is_wholly_parsed || parsed.empty()) {
    scan(raw_, text, {0, text.size()}, is_wholly_parsed ? Wanted::all : Wanted::others, controls, tokens);
    return with_text_between(tokens, 0, text.size());
  }
  for (const Range& range : parsed) scan(contents_, text, range, Wanted::controls, controls, tokens);
  std::vector<Segment> segments;
  for (const Segment& part : with_text_between(tokens, 0, text.size())) {
    if (part.token != kNoToken) {
      segments.push_back(part);
      continue;
    }
    // As a text of its own, so that no token's white space reaches into a control token.
    std::vector<Segment> others;
    scan(raw_, text.substr(0, part.range.end), part.range, Wanted::others, controls, others);
    const std::vector<Segment> between = with_text_between(others, part.range.begin, part.range.end);
    segments.insert(segments.end(), between.begin(), between.end());
  }
  return segments;
}

std::vector<Segment> AddedTokens::cut_normalized(std::string_view text, Controls found, const std::vector<bool>& controls) const {
  std::vector<Segment> tokens;
  scan(normalized_, text, {0, text.size()}, found == Controls::found ? Wanted::all : Wanted::others, controls, tokens);
  return with_text_between(tokens, 0, text.size());
}

}  // namespace tessera::text
