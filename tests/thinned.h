#pragma once
#include <cstddef>
#include <vector>

namespace tessera {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitizerBuild = true;
#else
constexpr bool kSanitizerBuild = false;
#endif

// A test's settings: all of them, and in sanitizer builds, where each takes ten times as long, every `step`-th one. A `step` that has no
// factor in common with the sizes of what was multiplied still meets every value of each.
template <typename Setting>
std::vector<Setting> thinned(const std::vector<Setting>& all, size_t step) {
  if (!kSanitizerBuild) return all;
  std::vector<Setting> kept;
  for (size_t i = 0; i < all.size(); i += step) kept.push_back(all[i]);
  return kept;
}

}  // namespace tessera
