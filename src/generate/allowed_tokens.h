#pragma once
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "core/types.h"

namespace tessera {

// Which tokens may come: those whose bits i % 32 of word i / 32 are set, and all where there are no words.
class AllowedTokens {
 public:
  AllowedTokens() = default;
  AllowedTokens(std::span<const int32_t> words) : words_(words) {}

  bool all() const { return words_.empty(); }
  bool operator[](TokenId token) const {
    const auto word = static_cast<size_t>(token) / 32;
    return all() || (word < words_.size() && ((static_cast<uint32_t>(words_[word]) >> (token % 32)) & 1) != 0);
  }

  // How many there are, counted to `most`.
  int64_t count(int64_t most) const {
    int64_t found = 0;
    for (size_t i = 0; i < words_.size() && found < most; ++i) found += std::popcount(static_cast<uint32_t>(words_[i]));
    return std::min(found, most);
  }

  // Calls take(token) for each of those in words, in order.
  void each(const auto& take) const {
    for (size_t i = 0; i < words_.size(); ++i)
      for (auto word = static_cast<uint32_t>(words_[i]); word != 0; word &= word - 1)
        take(static_cast<TokenId>(32 * i + static_cast<size_t>(std::countr_zero(word))));
  }

  // -infinity for all others.
  void forbid_others(std::span<float> scores) const {
    constexpr float kNever = -std::numeric_limits<float>::infinity();
    if (all()) return;
    for (size_t first = 0; first < scores.size(); first += 32) {
      const std::span<float> some = scores.subspan(first, std::min<size_t>(32, scores.size() - first));
      uint32_t others = first / 32 < words_.size() ? ~static_cast<uint32_t>(words_[first / 32]) : ~uint32_t{0};
      if (others == ~uint32_t{0}) {
        std::ranges::fill(some, kNever);
        continue;
      }
      for (; others != 0; others &= others - 1)
        if (const auto i = static_cast<size_t>(std::countr_zero(others)); i < some.size()) some[i] = kNever;
    }
  }

 private:
  std::span<const int32_t> words_;
};

}  // namespace tessera
