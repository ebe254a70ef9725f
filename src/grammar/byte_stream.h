#pragma once
// Numbers, lists and texts as bytes, for a process of the same build.
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/error.h"

namespace tessera::grammar {

class Writer {
 public:
  void number(int64_t value) { raw(&value, sizeof value); }
  template <class T>
  void list(const std::vector<T>& values) {
    static_assert(std::is_trivially_copyable_v<T>);
    number(static_cast<int64_t>(values.size()));
    raw(values.data(), values.size() * sizeof(T));
  }
  void text(std::string_view text) {
    number(static_cast<int64_t>(text.size()));
    raw(text.data(), text.size());
  }
  std::string take() { return std::move(bytes_); }

 private:
  void raw(const void* data, size_t size) { bytes_.append(static_cast<const char*>(data), size); }

  std::string bytes_;
};

// Each throws std::runtime_error where the bytes hold no such thing.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  int64_t number() {
    int64_t value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  // In [begin, end), which are within 32 bits.
  int32_t number_in(int64_t begin, int64_t end) {
    const int64_t value = number();
    expect(value >= begin && value < end);
    return static_cast<int32_t>(value);
  }
  template <class T>
  std::vector<T> list() {
    static_assert(std::is_trivially_copyable_v<T>);
    const int64_t count = number();
    expect(count >= 0 && static_cast<uint64_t>(count) <= bytes_.size() / sizeof(T));
    std::vector<T> values(static_cast<size_t>(count));
    const std::string_view from = take(values.size() * sizeof(T));
    if (!values.empty()) std::memcpy(values.data(), from.data(), from.size());
    return values;
  }
  std::string text() {
    const int64_t size = number();
    expect(size >= 0);
    return std::string(take(static_cast<size_t>(size)));
  }
  std::string_view rest() { return std::exchange(bytes_, {}); }
  void end() const { expect(bytes_.empty()); }
  static void expect(bool ok) { check<std::runtime_error>(ok, "grammar: a message is damaged"); }

 private:
  std::string_view take(size_t size) {
    expect(size <= bytes_.size());
    const std::string_view taken = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return taken;
  }

  std::string_view bytes_;
};

}  // namespace tessera::grammar
