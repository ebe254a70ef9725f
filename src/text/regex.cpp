#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/regex.h"

#include <pcre2.h>

#include <algorithm>

#include "core/error.h"
#include "text/fields.h"
#include "text/utf8.h"

namespace tessera::text {
namespace {

constexpr size_t kLongestPattern = 65536;  // bytes
// Steps of one match: a pre-tokenizer's needs a few for each character that it looks at.
constexpr uint32_t kFreeSteps = 1'000'000;
constexpr size_t kStepsPerByte = 8;
constexpr uint32_t kHeapLimit = 64 * 1024;  // KiB
constexpr uint32_t kDeepestParentheses = 100;

struct Free {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
  void operator()(pcre2_compile_context* context) const { pcre2_compile_context_free(context); }
};

template <class T>
std::unique_ptr<T, Free> own(T* pointer) {
  check<ResourceError>(pointer != nullptr, "regex: out of memory");
  return std::unique_ptr<T, Free>(pointer);
}

std::string error_text(int code) {
  PCRE2_UCHAR text[256] = {};
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

}  // namespace

struct Regex::Code {
  std::string pattern;  // as the file has it
  std::unique_ptr<pcre2_code, Free> compiled;
};

Regex::Regex(std::string_view pattern, const std::string& path) {
  check<FileError>(pattern.size() <= kLongestPattern, path, ": regular expression of ", pattern.size(), " bytes; at most ", kLongestPattern,
                   " are supported");
  const std::string translated = translate_regex(pattern, path);
  auto context = own(pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_parens_nest_limit(context.get(), kDeepestParentheses);
  int error = 0;
  size_t offset = 0;
  // Ruby's ^ and $ are those of a line, hence MULTILINE.
  pcre2_code* compiled = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                       PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &error, &offset, context.get());
  check<FileError>(compiled != nullptr, path, ": regular expression ", quoted(pattern), " is not valid: ", error_text(error));
  auto code = std::make_shared<Code>(Code{std::string(pattern), own(compiled)});
  pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE);  // where it can't, matching is interpreted
  code_ = std::move(code);
}

std::vector<Range> Regex::matches(std::string_view text) const {
  std::vector<Range> found;
  const auto data = own(pcre2_match_data_create(1, nullptr));
  const auto limits = own(pcre2_match_context_create(nullptr));
  const auto steps = static_cast<uint32_t>(std::min<size_t>(kFreeSteps + kStepsPerByte * text.size(), UINT32_MAX));
  pcre2_set_match_limit(limits.get(), steps);
  pcre2_set_depth_limit(limits.get(), steps);
  pcre2_set_heap_limit(limits.get(), kHeapLimit);
  const auto match = [&](size_t from, uint32_t options) {
    return pcre2_match(code_->compiled.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from, PCRE2_NO_UTF_CHECK | options,
                       data.get(), limits.get());
  };
  for (size_t from = 0; from <= text.size();) {
    int result = match(from, 0);
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = match(from, PCRE2_NO_JIT);
    if (result == PCRE2_ERROR_NOMATCH) break;
    check(result >= 0, "tokenizer: the regular expression ", quoted(code_->pattern), " fails on this text of ", text.size(),
          " bytes: ", error_text(result));
    const size_t* place = pcre2_get_ovector_pointer(data.get());
    const Range range{place[0], place[1]};
    const bool is_repeated = range.begin == range.end && !found.empty() && found.back().end == range.end;
    if (!is_repeated) found.push_back(range);
    from = !is_repeated ? range.end : from < text.size() ? from + utf8_length(text[from]) : from + 1;
  }
  return found;
}

}  // namespace tessera::text
