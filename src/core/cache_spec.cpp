#include "core/cache_spec.h"

#include <algorithm>

namespace tessera {

std::vector<CacheGroup> cache_groups(const CacheSpec& spec) {
  std::vector<CacheGroup> groups;
  for (size_t layer = 0; layer < spec.layers.size(); ++layer) {
    const std::optional<int64_t> window = spec.layers[layer].window;
    auto group = std::find_if(groups.begin(), groups.end(), [&](const CacheGroup& g) { return g.window == window; });
    if (group == groups.end()) group = groups.insert(groups.end(), CacheGroup{window, {}});
    group->layers.push_back(static_cast<int64_t>(layer));
  }
  return groups;
}

}  // namespace tessera
