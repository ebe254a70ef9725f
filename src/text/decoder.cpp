#include "text/decoder.h"

#include <algorithm>

#include "text/byte_level.h"
#include "text/utf8.h"

namespace tessera::text {
namespace {

constexpr int kDeepest = 8;
constexpr size_t kMostSteps = 64;
constexpr int64_t kMostStripped = 1024;

// The value of a byte token, <0x00> to <0xFF>, or -1.
int byte_of(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  const auto digit = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
  };
  return digit(token[3]) < 0 || digit(token[4]) < 0 ? -1 : digit(token[3]) * 16 + digit(token[4]);
}

// `token` without at most `start` and `stop` of the character `content` at its ends.
std::string_view stripped(std::string_view token, std::string_view content, size_t start, size_t stop) {
  for (; start > 0 && token.starts_with(content); --start) token.remove_prefix(content.size());
  for (; stop > 0 && token.ends_with(content); --stop) token.remove_suffix(content.size());
  return token;
}

}  // namespace

Decoder::Decoder() : steps_{Join{}} {}

void Decoder::add(const Fields& fields, int depth) {
  const std::string_view type = fields.text("type");
  const bool is_fused = std::any_of(steps_.begin(), steps_.end(), [](const Step& step) {
    return std::holds_alternative<Fuse>(step) || std::holds_alternative<ByteLevel>(step);
  });
  if (is_fused && (type == "Replace" || type == "ByteFallback" || type == "ByteLevel" || type == "Metaspace"))
    fields.refuse("type", "the decoder ", quoted(type), " behind Fuse or ByteLevel is not supported");
  if (type == "Sequence") {
    fields.allow({"decoders"});
    if (depth == kDeepest) fields.refuse("decoders", "are nested more than ", kDeepest, " levels deep");
    fields.each_object("decoders", kMostSteps, [&](const Fields& part) { add(part, depth + 1); });
  } else if (type == "Replace") {
    fields.allow({"pattern", "content"});
    steps_.push_back(Replace{Pattern(fields, "pattern"), std::string(fields.text("content", kLongestLiteral))});
  } else if (type == "ByteFallback") {
    fields.allow({});
    steps_.push_back(ByteFallback{});
  } else if (type == "Fuse") {
    fields.allow({});
    steps_.push_back(Fuse{});
  } else if (type == "ByteLevel") {
    fields.allow({"add_prefix_space", "trim_offsets", "use_regex"});
    steps_.push_back(ByteLevel{});
  } else if (type == "Strip") {
    fields.allow({"content", "start", "stop"});
    steps_.push_back(Strip{to_utf8(fields.character("content")), static_cast<size_t>(fields.integer("start", 0, kMostStripped)),
                           static_cast<size_t>(fields.integer("stop", 0, kMostStripped)), is_fused});
  } else if (type == "Metaspace") {
    fields.allow({"replacement", "prepend_scheme", "add_prefix_space", "split", "str_rep"});
    const std::string_view scheme = fields.find("prepend_scheme") ? fields.text("prepend_scheme") : "always";
    if (scheme != "always" && scheme != "first" && scheme != "never") fields.refuse("prepend_scheme", quoted(scheme), " is not known");
    steps_.push_back(Metaspace{to_utf8(fields.character("replacement")), scheme != "never"});
  } else {
    fields.refuse("type", "the decoder ", quoted(type), " is not supported");
  }
  if (steps_.size() > kMostSteps) fields.refuse("type", "there are more than ", kMostSteps, " decoders");
}

// Hands a token to the step, and what the step makes of it to the next one.
void Decoder::Stream::feed(size_t step, std::string_view token, std::string& text) {
  if (step == states_.size()) {
    text += token;
    return;
  }
  State& state = states_[step];
  const Step& kind = decoder_->steps_[step];
  if (std::holds_alternative<Join>(kind)) {
    if (state.seen++ > 0) feed(step + 1, " ", text);
    feed(step + 1, token, text);
  } else if (const auto* replace = std::get_if<Replace>(&kind)) {
    feed(step + 1, replace->pattern.replaced(token, replace->content), text);
  } else if (std::holds_alternative<ByteFallback>(kind)) {
    if (const int byte = byte_of(token); byte >= 0) {
      state.held += static_cast<char>(byte);
      return;
    }
    release_bytes(step, text);
    feed(step + 1, token, text);
  } else if (std::holds_alternative<ByteLevel>(kind)) {
    state.held += bytes_of_letters(token);
    std::string complete;
    state.held.erase(0, append_lossy_utf8(complete, state.held, Cut::keep));
    feed(step + 1, complete, text);
  } else if (const auto* strip_step = std::get_if<Strip>(&kind)) {
    if (strip_step->is_fused) return strip(step, token, text);
    feed(step + 1, stripped(token, strip_step->content, strip_step->start, strip_step->stop), text);
  } else if (const auto* metaspace = std::get_if<Metaspace>(&kind)) {
    const bool drops = state.seen++ == 0 && metaspace->drops_first;
    feed(step + 1, Pattern(metaspace->replacement).replaced(token, drops ? "" : " "), text);
  } else {
    feed(step + 1, token, text);  // Fuse: a stream's text is one token anyway
  }
}

// The end of a run of byte tokens: text if the whole run is valid UTF-8, else U+FFFD for every byte of it.
void Decoder::Stream::release_bytes(size_t step, std::string& text) {
  const std::string run = std::move(states_[step].held);
  states_[step].held.clear();
  if (run.empty()) return;
  if (find_invalid_utf8(run) == std::string_view::npos) return feed(step + 1, run, text);
  for (size_t i = 0; i < run.size(); ++i) feed(step + 1, kReplacementCharacter, text);
}

// Strips the whole text, of which `part` is the next piece: characters at the end are held back while they may be the last ones.
void Decoder::Stream::strip(size_t step, std::string_view part, std::string& text) {
  const auto& [content, start, stop, is_fused] = std::get<Strip>(decoder_->steps_[step]);
  State& state = states_[step];
  for (; state.seen < start && part.starts_with(content); ++state.seen) part.remove_prefix(content.size());
  if (part.empty()) return;
  state.seen = start;
  const std::string_view kept = stripped(part, content, 0, part.size());
  std::string ready;
  if (!kept.empty()) ready = std::exchange(state.held, "");
  ready += kept;
  state.held += part.substr(kept.size());
  const size_t most = stop * content.size();
  if (state.held.size() > most) {
    ready += state.held.substr(0, state.held.size() - most);
    state.held.erase(0, state.held.size() - most);
  }
  feed(step + 1, ready, text);
}

void Decoder::Stream::flush(std::string& text) {
  for (size_t step = 0; step < states_.size(); ++step) {
    const Step& kind = decoder_->steps_[step];
    if (std::holds_alternative<ByteFallback>(kind)) {
      release_bytes(step, text);
    } else if (std::holds_alternative<ByteLevel>(kind) && !states_[step].held.empty()) {
      feed(step + 1, kReplacementCharacter, text);
    }
    states_[step] = State{};  // what a Strip holds is what it takes away
  }
}

}  // namespace tessera::text
