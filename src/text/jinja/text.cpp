#include "text/jinja/text.h"

#include <algorithm>

namespace tessera::jinja {

size_t Text::run_of(size_t byte) const {
  return std::upper_bound(runs_.begin(), runs_.end(), byte, [](size_t at, const Run& run) { return at < run.end; }) - runs_.begin();
}

void Text::append(std::string_view bytes, Origin origin) {
  if (bytes.empty()) return;
  bytes_ += bytes;
  if (!runs_.empty() && runs_.back().origin == origin) {
    runs_.back().end = bytes_.size();
  } else {
    runs_.push_back({bytes_.size(), origin});
  }
}

void Text::append(const Text& other, size_t begin, size_t end) {
  if (begin >= end) return;
  for (size_t run = other.run_of(begin); begin < end; ++run) {
    const size_t stop = std::min(end, other.runs_[run].end);
    append(other.view().substr(begin, stop - begin), other.runs_[run].origin);
    begin = stop;
  }
}

Text Text::part(size_t begin, size_t end) const {
  Text part;
  part.append(*this, begin, end);
  return part;
}

}  // namespace tessera::jinja
