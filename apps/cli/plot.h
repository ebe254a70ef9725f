#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tessera {

// A text as it may stand in HTML, attributes included.
std::string escaped(std::string_view text);

// Values along an axis of steps, on a logarithmic scale, as inline SVG. The page's style gives its colours.
struct LogPlot {
  std::string label;                                  // what the values are, for those who cannot see it
  std::vector<double> values;                         // >= 0; a zero lies on the floor
  std::vector<std::string> hints;                     // one a value: shown when it is pointed at
  std::vector<std::pair<size_t, std::string>> ticks;  // of the steps' axis
  std::optional<double> threshold;                    // a line across
  std::optional<size_t> marked;                       // a value that stands out
};
std::string svg(const LogPlot& plot);

}  // namespace tessera
