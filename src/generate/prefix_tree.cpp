#include "generate/prefix_tree.h"

#include <algorithm>
#include <random>
#include <string_view>
#include <utility>

namespace tessera {
namespace {

// What stands in a root for the text before the first page. Roots alone have no parent, so that no text is taken for one.
std::vector<TokenId> root_tokens(std::string_view salt, int set) {
  std::vector<TokenId> tokens{static_cast<TokenId>(set)};
  tokens.insert(tokens.end(), salt.begin(), salt.end());
  return tokens;
}

}  // namespace

// The key is drawn, so that nobody can choose texts that collide and make searches long.
PrefixTree::PrefixTree(size_t groups, uint64_t hash_mask) : groups_(groups), hash_mask_(hash_mask) {
  std::random_device device;
  key_ = uint64_t{device()} << 32 | device();
}

uint64_t PrefixTree::hash(Id parent, std::span<const TokenId> tokens) const {
  constexpr uint64_t kOdd = 0x9e3779b97f4a7c15;
  const auto mix = [](uint64_t hash, uint64_t value) {
    hash = (hash ^ value) * kOdd;
    return hash ^ hash >> 32;
  };
  uint64_t hash = mix(key_, parent);
  for (const TokenId token : tokens) hash = mix(hash, static_cast<uint64_t>(token));
  return hash & hash_mask_;
}

PrefixTree::Id PrefixTree::find_root(std::string_view salt, int set) const { return find(0, root_tokens(salt, set)); }

PrefixTree::Id PrefixTree::find(Id parent, std::span<const TokenId> tokens) const {
  for (auto [at, end] = by_hash_.equal_range(hash(parent, tokens)); at != end; ++at) {
    const Node& node = nodes_.at(at->second);
    if (node.parent == parent && std::ranges::equal(node.tokens, tokens)) return at->second;
  }
  return 0;
}

int32_t PrefixTree::page(Id node, size_t group) const {
  const auto at = nodes_.find(node);
  return at == nodes_.end() ? -1 : at->second.pages[group];
}

PrefixTree::Id PrefixTree::make_root(std::string_view salt, int set) { return make(0, root_tokens(salt, set)); }

PrefixTree::Id PrefixTree::make(Id parent, std::span<const TokenId> tokens) {
  if (const Id found = find(parent, tokens)) return found;
  const Id id = last_ + 1;
  const auto hashed = by_hash_.emplace(hash(parent, tokens), id);
  try {
    nodes_.emplace(id, Node{parent, {tokens.begin(), tokens.end()}, std::vector<int32_t>(groups_, -1)});
  } catch (...) {
    by_hash_.erase(hashed);
    throw;
  }
  last_ = id;
  if (parent != 0) ++nodes_.at(parent).children;
  return id;
}

void PrefixTree::forget_page(Id node, size_t group) noexcept {
  nodes_.at(node).pages[group] = -1;
  prune(node);
}

void PrefixTree::prune(Id node) noexcept {
  for (auto at = nodes_.find(node); at != nodes_.end(); at = nodes_.find(node)) {
    const auto has_page = [](int32_t page) { return page >= 0; };
    if (at->second.children > 0 || std::ranges::any_of(at->second.pages, has_page)) return;
    auto [hashed, end] = by_hash_.equal_range(hash(at->second.parent, at->second.tokens));
    while (hashed != end && hashed->second != node) ++hashed;
    by_hash_.erase(hashed);
    node = at->second.parent;
    nodes_.erase(at);
    if (node != 0) --nodes_.at(node).children;
  }
}

}  // namespace tessera
