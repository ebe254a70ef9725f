#include "text/tokenizer.h"

#include <simdjson.h>

#include <algorithm>

#include "core/error.h"
#include "text/tokenizer_parts.h"
#include "text/utf8.h"

namespace tessera {
namespace {

template <class Part, class... Rest>
Part part_of(const text::Fields& root, std::string_view key, const Rest&... rest) {
  return root.find(key) ? Part(root.object(key), rest...) : Part();
}

const text::Fields& allowed(const text::Fields& root) {
  root.allow({"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model"});
  return root;
}

// The spans' texts joined, and where special tokens are to be parsed in them.
struct Input {
  std::string text;
  std::vector<text::Range> parsed;
};

Input join(std::span<const TextSpan> spans) {
  Input input;
  for (const TextSpan& span : spans) {
    const size_t begin = input.text.size();
    check(span.text.size() <= text::kLongestText - begin, "tokenizer: a text of more than ", text::kLongestText,
          " bytes cannot be encoded; shorten it");
    input.text += span.text;
    if (!span.parse_special || span.text.empty()) continue;
    if (!input.parsed.empty() && input.parsed.back().end == begin) {
      input.parsed.back().end = input.text.size();
    } else {
      input.parsed.push_back({begin, input.text.size()});
    }
  }
  if (!simdjson::validate_utf8(input.text))
    fail("tokenizer: the text is not valid UTF-8 at byte ", text::find_invalid_utf8(input.text), "; convert it to UTF-8");
  return input;
}

}  // namespace

Tokenizer::Parts::Parts(const text::Fields& root, text::Bpe bpe)
    : normalizer(part_of<text::Normalizer>(allowed(root), "normalizer")),
      pre_tokenizer(part_of<text::PreTokenizer>(root, "pre_tokenizer")),
      model(std::move(bpe)),
      added(root, model.vocabulary(), normalizer),
      end_id(std::max(model.vocabulary().end_id(), added.end_id())) {
  check<FileError>(end_id > 0, root.path_of("model.vocab"), ": there is no token");
  post_processor = part_of<text::PostProcessor>(root, "post_processor", end_id);
  decoder = part_of<text::Decoder>(root, "decoder");
  special.resize(end_id);
  for (TokenId id = 0; id < end_id; ++id) {
    const text::AddedToken* token = added.find(id);
    special[id] = token && token->special;
  }
}

std::optional<std::string_view> Tokenizer::Parts::token_for_text(TokenId id, const DecodeOptions& options) const {
  check(id >= 0, "tokenizer: the token id ", id, " is negative");
  if (id >= end_id || (options.skip_special && special[id])) return std::nullopt;
  if (const text::AddedToken* token = added.find(id)) return token->content;
  if (!model.vocabulary().has(id)) return std::nullopt;
  return model.vocabulary().token(id);
}

Tokenizer::Tokenizer(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

std::vector<TokenId> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  const TextSpan span{text, options.parse_special};
  return encode(std::span(&span, 1), options.add_special_tokens);
}

std::vector<TokenId> Tokenizer::encode(std::span<const TextSpan> spans, bool add_special_tokens) const {
  return encode(spans, add_special_tokens, parts_->special);
}

std::vector<bool> Tokenizer::control_tokens(std::span<const std::string_view> texts) const {
  return parts_->added.controls(texts, parts_->end_id);
}

std::vector<TokenId> Tokenizer::encode(std::span<const TextSpan> spans, bool add_special_tokens, const std::vector<bool>& controls) const {
  const Parts& parts = *parts_;
  check(controls.size() == parts.special.size(), "tokenizer: control tokens of ", controls.size(), " ids; the tokenizer has ",
        parts.special.size());
  const Input input = join(spans);
  const bool is_wholly_parsed =
      std::all_of(spans.begin(), spans.end(), [](const TextSpan& span) { return span.parse_special || span.text.empty(); });
  const std::vector<bool> nothing;
  const std::vector<bool>& forbidden = is_wholly_parsed ? nothing : controls;
  const auto found = is_wholly_parsed ? text::AddedTokens::Controls::found : text::AddedTokens::Controls::skipped;

  std::vector<TokenId> ids;
  text::Bpe::Workspace workspace;
  if (add_special_tokens) ids = parts.post_processor.before();
  for (const text::Segment& segment : parts.added.cut(input.text, input.parsed, controls)) {
    if (segment.token != text::kNoToken) {
      ids.push_back(segment.token);
      continue;
    }
    const std::string normal =
        parts.normalizer(std::string_view(input.text).substr(segment.range.begin, segment.range.end - segment.range.begin));
    for (const text::Segment& piece : parts.added.cut_normalized(normal, found, controls)) {
      if (piece.token != text::kNoToken) {
        ids.push_back(piece.token);
        continue;
      }
      const size_t bytes = piece.range.end - piece.range.begin;
      text::Words words{normal.substr(piece.range.begin, bytes), {{0, bytes}}, segment.range.begin == 0 && piece.range.begin == 0};
      parts.pre_tokenizer.apply(words);
      for (const text::Range& word : words.ranges)
        parts.model.encode(std::string_view(words.text).substr(word.begin, word.end - word.begin), forbidden, workspace, ids);
    }
  }
  if (add_special_tokens) ids.insert(ids.end(), parts.post_processor.behind().begin(), parts.post_processor.behind().end());
  return ids;
}

std::string Tokenizer::decode(std::span<const TokenId> ids, const DecodeOptions& options) const {
  std::string text;
  text::Decoder::Stream stream(parts_->decoder);
  for (const TokenId id : ids)
    if (const auto token = parts_->token_for_text(id, options)) stream.push(*token, text);
  stream.flush(text);
  return text;
}

std::optional<TokenId> Tokenizer::token_to_id(std::string_view token) const {
  if (const text::AddedToken* added = parts_->added.find(token)) return added->id;
  const TokenId id = parts_->model.vocabulary().find(token);
  return id == text::kNoToken ? std::nullopt : std::optional(id);
}

bool Tokenizer::has_token(TokenId id) const { return id >= 0 && (parts_->added.find(id) || parts_->model.vocabulary().has(id)); }

std::string_view Tokenizer::id_to_token(TokenId id) const { return has_token(id) ? *parts_->token_for_text(id, {}) : std::string_view(); }

bool Tokenizer::is_special(TokenId id) const { return id >= 0 && id < parts_->end_id && parts_->special[id]; }

TokenId Tokenizer::vocab_size() const { return parts_->end_id; }

}  // namespace tessera
