#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

// Looks for stop strings in a stream of text, across the borders of its pieces.
class StopStrings {
 public:
  // Throws std::invalid_argument for an empty string.
  explicit StopStrings(std::vector<std::string> stops);

  // What stands before the stream: a stop string may begin there, and is none if it ends there.
  void begin_behind(std::string_view before);
  // The text that can be shown now: up to the first stop string, without what may still become one.
  std::string push(std::string_view piece) { return add(piece, 's'); }
  // The same of a piece that is looked at and never shown, as a special token's name.
  std::string pass(std::string_view piece) { return add(piece, 'h'); }
  // The stream has ended: what was held back.
  std::string flush() { return take(held_.size()); }
  bool found() const { return found_.has_value(); }
  // The one that was found, "" before.
  std::string_view string() const { return found_ ? stops_[*found_] : std::string_view(); }
  size_t longest() const;  // bytes of the longest

 private:
  std::string add(std::string_view piece, char kind);
  std::string take(size_t bytes);
  size_t beginning() const;

  std::vector<std::string> stops_;
  std::string held_, kinds_;  // of each byte: s(hown) or h(idden)
  std::optional<size_t> found_;
};

}  // namespace tessera
