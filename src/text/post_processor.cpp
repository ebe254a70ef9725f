#include "text/post_processor.h"

namespace tessera::text {
namespace {

constexpr int kDeepest = 8;
constexpr size_t kMostSteps = 64;
constexpr size_t kMostIds = 1024;

// The ids that a template's special token stands for.
std::vector<TokenId> ids_of(const Fields& token, TokenId end_id) {
  token.allow({"id", "ids", "tokens"});
  const std::string path = token.path_of("ids");
  std::vector<TokenId> ids;
  for (const JsonValue id : token.array("ids", kMostIds)) ids.push_back(static_cast<TokenId>(integer_of(id, 0, end_id - 1, path)));
  return ids;
}

}  // namespace

void PostProcessor::add(const Fields& fields, TokenId end_id, int depth) {
  const std::string_view type = fields.text("type");
  if (type == "Sequence") {
    fields.allow({"processors"});
    if (depth == kDeepest) fields.refuse("processors", "are nested more than ", kDeepest, " levels deep");
    fields.each_object("processors", kMostSteps, [&](const Fields& part) { add(part, end_id, depth + 1); });
  } else if (type == "ByteLevel") {  // moves offsets only
    fields.allow({"add_prefix_space", "trim_offsets", "use_regex"});
  } else if (type == "TemplateProcessing") {
    add_template(fields, end_id);
  } else {
    fields.refuse("type", "the post-processor ", quoted(type), " is not supported");
  }
}

// Of the two templates only "single" is used: here a text is never one of a pair.
void PostProcessor::add_template(const Fields& fields, TokenId end_id) {
  fields.allow({"single", "pair", "special_tokens"});
  const Fields tokens = fields.object("special_tokens");
  std::vector<TokenId> before, behind;
  bool has_text = false;
  fields.each_object("single", kMostSteps, [&](const Fields& piece) {
    piece.allow({"Sequence", "SpecialToken"});
    if (piece.find("Sequence")) {
      const Fields sequence = piece.object("Sequence");
      sequence.allow({"id", "type_id"});
      if (piece.find("SpecialToken") || has_text || sequence.text("id") != "A")
        fields.refuse("single", "must have one sequence, A, and special tokens before and behind it");
      has_text = true;
    } else {
      const Fields token = piece.object("SpecialToken");
      token.allow({"id", "type_id"});
      const std::vector<TokenId> ids = ids_of(tokens.object(token.text("id")), end_id);
      std::vector<TokenId>& side = has_text ? behind : before;
      side.insert(side.end(), ids.begin(), ids.end());
    }
  });
  if (!has_text) fields.refuse("single", "must have one sequence, A");
  if (!before_.empty() || !behind_.empty()) fields.refuse("type", "more than one template is not supported");
  if (before.size() + behind.size() > kMostIds) fields.refuse("single", "adds more than ", kMostIds, " ids");
  before_ = std::move(before);
  behind_ = std::move(behind);
}

}  // namespace tessera::text
