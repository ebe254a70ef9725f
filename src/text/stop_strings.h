#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

// Looks for stop strings in a stream of text, across the borders of its pieces.
class StopStrings {
 public:
  // Throws std::invalid_argument for an empty string.
  explicit StopStrings(std::vector<std::string> stops);

  // The text that can be shown now: up to the first stop string, without what may still become one.
  std::string push(std::string_view piece);
  // The stream has ended: what was held back.
  std::string flush();
  bool found() const { return found_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool found_ = false;
};

}  // namespace tessera
