#include "text/stop_strings.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace tessera {

StopStrings::StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {
  for (const std::string& stop : stops_) check(!stop.empty(), "stop string: is empty; give at least one character");
}

void StopStrings::begin_behind(std::string_view before) {
  held_ = before;
  kinds_.assign(held_.size(), 'h');
  take(held_.size() - beginning());
}

std::string StopStrings::add(std::string_view piece, char kind) {
  if (found_) return "";
  held_ += piece;
  kinds_.append(piece.size(), kind);
  size_t end = std::string::npos;
  for (size_t stop = 0; stop < stops_.size(); ++stop) {
    const size_t place = held_.find(stops_[stop]);
    if (place < end) {
      end = place;
      found_ = stop;
    }
  }
  if (!found_) return take(held_.size() - beginning());
  std::string shown = take(end);
  held_.clear();
  kinds_.clear();
  return shown;
}

// The first bytes of what is held, without those that are hidden.
std::string StopStrings::take(size_t bytes) {
  std::string shown;
  for (size_t i = 0; i < bytes; ++i)
    if (kinds_[i] == 's') shown += held_[i];
  held_.erase(0, bytes);
  kinds_.erase(0, bytes);
  return shown;
}

// The longest end of what is held that begins a stop string.
size_t StopStrings::beginning() const {
  size_t keep = 0;
  for (const std::string& stop : stops_)
    for (size_t length = std::min(stop.size() - 1, held_.size()); length > keep; --length)
      if (held_.compare(held_.size() - length, length, stop, 0, length) == 0) {
        keep = length;
        break;
      }
  return keep;
}

size_t StopStrings::longest() const {
  size_t bytes = 0;
  for (const std::string& stop : stops_) bytes = std::max(bytes, stop.size());
  return bytes;
}

}  // namespace tessera
