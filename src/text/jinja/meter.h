#pragma once
// What one rendering may take, counted the same on every machine: a template is data that cannot run away.
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/error.h"

namespace tessera::jinja {

// Where a template's author looks: both count from 1, a column in characters.
struct Place {
  uint32_t line = 1, column = 1;
};

struct Limits {
  size_t steps = size_t{10} << 20;         // of the interpreter; a text or list costs steps by its length
  size_t output_bytes = size_t{16} << 20;  // the rendered text
  size_t value_bytes = size_t{32} << 20;   // held by the template's own values at one time
  size_t depth = 1000;                     // of expressions and blocks within each other, through macros
};

class Meter {
 public:
  // `source` begins every message. Both must outlive the meter.
  Meter(const Limits& limits, const std::string& source) : limits_(limits), source_(source) {}
  Meter(const Meter&) = delete;
  Meter& operator=(const Meter&) = delete;

  const Limits& limits() const { return limits_; }

  void spend(size_t steps) {
    if (steps > limits_.steps - spent_) out_of("steps", limits_.steps);
    spent_ += steps;
  }
  void spend_for(size_t bytes) { spend(bytes / 32); }  // for a pass over that many bytes
  void hold(size_t bytes) {
    if (bytes > limits_.value_bytes - held_) out_of("bytes of values", limits_.value_bytes);
    held_ += bytes;
  }
  void release(size_t bytes) noexcept { held_ -= bytes; }
  // Refuses at once what `count` pieces of so many bytes would come to.
  void expect(size_t bytes, size_t count) {
    size_t all = 0;
    if (__builtin_mul_overflow(bytes, count, &all)) all = limits_.value_bytes + 1;
    hold(all);
    release(all);
  }
  size_t steps() const { return spent_; }

  // Throws std::invalid_argument that names the place.
  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail(source_, ", line ", at.line, ", column ", at.column, ": ", parts...);
  }

  Place at;  // of what is being done

 private:
  friend class Level;
  [[noreturn]] void out_of(const char* what, size_t limit) const;

  const Limits& limits_;
  const std::string& source_;
  size_t spent_ = 0, held_ = 0, depth_ = 0;
};

// One level of nesting, for as long as it lives.
class Level {
 public:
  explicit Level(Meter& meter) : meter_(meter) {
    if (meter.depth_ >= meter.limits_.depth) meter.out_of("levels", meter.limits_.depth);
    ++meter.depth_;
  }
  ~Level() { --meter_.depth_; }
  Level(const Level&) = delete;
  Level& operator=(const Level&) = delete;

 private:
  Meter& meter_;
};

}  // namespace tessera::jinja
