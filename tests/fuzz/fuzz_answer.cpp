// The first byte of the input chooses a format and options, the others are the answer's tokens: bytes, and special tokens in place of the
// first control characters. Whatever they are, all that is told stood in the answer in its order, and an answer without a mark is told
// whole.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "api/answer_reader.h"
#include "text/small_tokenizer.h"

namespace {

using namespace tessera;
using api::AnswerFormat;

void expect(bool ok) {
  if (!ok) std::abort();
}

constexpr std::array kSpecial{"[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "[THINK]", "[/THINK]", "<|python_tag|>", "<eos>"};
constexpr TokenId kFirstSpecial = 256;

// Every byte is a token with its value as its id.
Tokenizer make_tokenizer() {
  tessera::Json json = small_tokenizer();
  json["model"]["vocab"] = tessera::Json::object();
  json["model"]["merges"] = tessera::Json::array();
  add_byte_tokens(json, 0);
  TokenId next = kFirstSpecial;
  for (const char* special : kSpecial) {
    json["model"]["vocab"][special] = next;
    json["added_tokens"].push_back(added_token(next++, special, true));
  }
  json["decoder"] = tessera::Json::parse(R"({"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]})");
  return parse(json);
}

std::vector<AnswerFormat> make_formats() {
  std::vector<AnswerFormat> formats;
  for (const auto calls :
       {AnswerFormat::Calls::tagged, AnswerFormat::Calls::object, AnswerFormat::Calls::list, AnswerFormat::Calls::named}) {
    AnswerFormat format{.calls = calls, .think_begin = "<think>", .think_end = "</think>"};
    formats.push_back(format);
    for (size_t i = 0; i < kSpecial.size() - 1; ++i)
      (i == 3 || i == 4 ? format.think_marks : format.call_marks).push_back({kSpecial[i], kFirstSpecial + static_cast<TokenId>(i)});
    format.think_begin = "[THINK]";
    format.think_end = "[/THINK]";
    formats.push_back(format);
  }
  return formats;
}

// The answer with the special tokens that are read as marks, and without the others: bytes on both sides of a token that is left out are
// one run, and may be a character together.
std::string decoded(const Tokenizer& tokenizer, const std::vector<TokenId>& ids, const api::AnswerReaderOptions& options) {
  std::vector<TokenId> kept, shown;
  if (options.format)
    for (const AnswerFormat::Mark& mark : options.format->think_marks) shown.push_back(mark.id);
  if (options.format && !options.tools.empty())
    for (const AnswerFormat::Mark& mark : options.format->call_marks) shown.push_back(mark.id);
  std::copy_if(ids.begin(), ids.end(), std::back_inserter(kept),
               [&](TokenId id) { return id < kFirstSpecial || std::find(shown.begin(), shown.end(), id) != shown.end(); });
  return tokenizer.decode(kept, {});
}

// Whether the ASCII of what was told stood in the answer, in its order.
bool stood_in(std::string_view told, std::string_view answer) {
  for (const char c : told) {
    if (static_cast<unsigned char>(c) >= 0x80) continue;  // characters may be whole in one and cut in the other
    const size_t place = answer.find(c);
    if (place == answer.npos) return false;
    answer.remove_prefix(place + 1);
  }
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Tokenizer tokenizer = make_tokenizer();
  static const std::vector<AnswerFormat> formats = make_formats();
  if (size == 0) return 0;
  const uint8_t choice = data[0];
  const AnswerFormat& format = formats[choice % formats.size()];
  std::vector<TokenId> ids;
  for (const uint8_t byte : std::string_view(reinterpret_cast<const char*>(data), size).substr(1)) {
    const bool is_special = byte > 0 && byte <= kSpecial.size();
    ids.push_back(is_special ? kFirstSpecial + byte - 1 : byte);
  }
  api::AnswerReaderOptions options{.format = choice & 8 ? &format : nullptr, .thinking = static_cast<api::Thinking>((choice >> 6) % 3)};
  if (choice & 16) options.tools = {"f"};
  if (choice & 32) options.stops = {"END"};
  api::AnswerReader reader(tokenizer, options);
  const std::string whole = decoded(tokenizer, ids, options);
  std::string text, reasoning;
  std::vector<std::string> arguments;
  const auto read = [&](const api::AnswerDelta& delta) {
    reasoning += delta.reasoning;
    text += delta.text;
    for (const auto& call : delta.calls) {
      expect(call.index < arguments.size() || (call.index == arguments.size() && !call.id.empty() && !call.name.empty()));
      arguments.resize(std::max(arguments.size(), call.index + 1));
      expect(call.index + 1 == arguments.size());
      arguments[call.index] += call.arguments;
    }
  };
  for (const TokenId id : ids) {
    if (reader.stopped()) break;
    read(reader.push(id, false));
  }
  read(reader.finish("stop"));
  expect(stood_in(text, whole) && stood_in(reasoning, whole));
  for (const std::string& one : arguments) expect(one.starts_with('{') && (one == "{}" || stood_in(one, whole)));
  const bool marked = whole.find('<') != whole.npos || whole.find('[') != whole.npos || whole.find('{') != whole.npos;
  if (!options.format || (!marked && options.thinking != api::Thinking::begun))
    expect(reader.stopped() || text == tokenizer.decode(ids, {.skip_special = true}));
  return 0;
}
