#include "cli/plot.h"

#include <algorithm>
#include <cmath>

#include "cli/report.h"
#include "core/error.h"

namespace tessera {
namespace {

constexpr double kWidth = 960, kHeight = 230, kLeft = 62, kRight = 12, kTop = 10, kBottom = 26;
constexpr int kLowest = -13;  // decades: below lies the rounding of the sums themselves

class Scale {
 public:
  explicit Scale(const LogPlot& plot) : count_(plot.values.size()) {
    double low = plot.threshold.value_or(1e-3), high = low;
    for (const double value : plot.values) {
      if (!(value > 0) || !std::isfinite(value)) continue;
      low = std::min(low, value);
      high = std::max(high, value);
    }
    bottom_ = std::max(kLowest, static_cast<int>(std::floor(std::log10(low))) - 1);
    top_ = std::max(bottom_ + 2, static_cast<int>(std::ceil(std::log10(high))));
  }

  int bottom() const { return bottom_; }
  int top() const { return top_; }
  double x(size_t i) const {
    return kLeft + (kWidth - kLeft - kRight) * (static_cast<double>(i) + 0.5) / static_cast<double>(std::max<size_t>(count_, 1));
  }
  double y(double value) const {
    const double decade = value > 0 ? std::clamp(std::log10(value), static_cast<double>(bottom_), static_cast<double>(top_)) : bottom_;
    return kTop + (kHeight - kTop - kBottom) * (top_ - decade) / (top_ - bottom_);
  }

 private:
  size_t count_;
  int bottom_, top_;
};

std::string line(double x1, double y1, double x2, double y2, const char* style) {
  return format("<line x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f' class='%s'/>", x1, y1, x2, y2, style);
}

std::string text(double x, double y, const char* anchor, const std::string& content) {
  return format("<text x='%.1f' y='%.1f' text-anchor='%s'>", x, y, anchor) + content + "</text>";
}

std::string axes(const LogPlot& plot, const Scale& scale) {
  std::string out;
  const int every = (scale.top() - scale.bottom() + 6) / 7;
  for (int decade = scale.top(); decade >= scale.bottom(); decade -= every) {
    const double y = scale.y(std::pow(10.0, decade));
    out += line(kLeft, y, kWidth - kRight, y, "grid") +
           text(kLeft - 7, y + 4, "end", decade == 0 ? "1" : format("10<tspan class='power' dy='-5'>%d</tspan>", decade));
  }
  for (const auto& [step, name] : plot.ticks) out += text(scale.x(step), kHeight - 8, "middle", escaped(name));
  if (plot.threshold) out += line(kLeft, scale.y(*plot.threshold), kWidth - kRight, scale.y(*plot.threshold), "threshold");
  return out;
}

}  // namespace

std::string escaped(std::string_view content) {
  std::string out;
  for (const char c : content) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += static_cast<unsigned char>(c) < 0x20 && c != '\n' ? ' ' : c;
    }
  }
  return out;
}

std::string svg(const LogPlot& plot) {
  const Scale scale(plot);
  std::string path, points;
  const double radius = plot.values.size() > 250 ? 1.6 : 2.4;
  for (size_t i = 0; i < plot.values.size(); ++i) {
    const double x = scale.x(i), y = scale.y(plot.values[i]);
    path += format("%s%.1f %.1f", i == 0 ? "M" : "L", x, y);
    const bool above = plot.threshold && plot.values[i] > *plot.threshold, marked = plot.marked == i;
    points += format("<circle cx='%.1f' cy='%.1f' r='%.1f' class='%s'>", x, y, marked ? 5.0 : radius,
                     marked  ? (above ? "marked above" : "marked")
                     : above ? "above"
                             : "point");
    points += "<title>" + escaped(plot.hints[i]) + "</title></circle>";
  }
  return format("<svg viewBox='0 0 %.0f %.0f' role='img' aria-label='", kWidth, kHeight) + escaped(plot.label) + "'>" + axes(plot, scale) +
         "<path class='curve' d='" + path + "'/>" + points + "</svg>\n";
}

}  // namespace tessera
