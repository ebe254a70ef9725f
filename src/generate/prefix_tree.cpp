#include "generate/prefix_tree.h"

#include <algorithm>

namespace tessera {
namespace {

uint64_t hash_of(PrefixTree::Id parent, std::span<const TokenId> tokens) {
  uint64_t hash = parent * 0x9e3779b97f4a7c15ull;
  for (const TokenId token : tokens) hash = (hash ^ static_cast<uint32_t>(token)) * 0x100000001b3ull;
  return hash ^ hash >> 32;
}

}  // namespace

PrefixTree::Id PrefixTree::find_root(const std::string& salt, int set) const {
  const auto found = roots_.find({salt, set});
  return found == roots_.end() ? 0 : found->second;
}

PrefixTree::Id PrefixTree::find(Id parent, std::span<const TokenId> tokens) const {
  const auto [first, last] = by_hash_.equal_range(hash_of(parent, tokens));
  for (auto it = first; it != last; ++it) {
    const Node& node = nodes_.at(it->second);
    if (node.parent == parent && std::equal(tokens.begin(), tokens.end(), node.tokens.begin(), node.tokens.end())) return it->second;
  }
  return 0;
}

PrefixTree::Id PrefixTree::root(const std::string& salt, int set) {
  if (const Id found = find_root(salt, set)) return found;
  const auto made = roots_.emplace(Root(salt, set), last_ + 1).first;
  try {
    nodes_.emplace(last_ + 1, Node{.parent = 0, .hash = 0, .tokens = {}, .pages = {}, .root = &made->first});
  } catch (...) {
    roots_.erase(made);
    throw;
  }
  return ++last_;
}

PrefixTree::Id PrefixTree::enter(Id parent, std::span<const TokenId> tokens) {
  if (const Id found = find(parent, tokens)) return found;
  const uint64_t hash = hash_of(parent, tokens);
  const Id id = last_ + 1;
  nodes_.emplace(
      id, Node{.parent = parent, .hash = hash, .tokens = {tokens.begin(), tokens.end()}, .pages = std::vector<int32_t>(groups_, -1)});
  try {
    by_hash_.emplace(hash, id);
  } catch (...) {
    nodes_.erase(id);
    throw;
  }
  ++nodes_.at(parent).children;
  return last_ = id;
}

void PrefixTree::prune(Id id) {
  while (id != 0) {
    const auto found = nodes_.find(id);
    if (found == nodes_.end()) return;
    const Node& node = found->second;
    if (node.children > 0 || std::any_of(node.pages.begin(), node.pages.end(), [](int32_t page) { return page >= 0; })) return;
    const Id parent = node.parent;
    if (node.root) {
      roots_.erase(roots_.find(*node.root));
    } else {
      const auto [first, last] = by_hash_.equal_range(node.hash);
      by_hash_.erase(std::find_if(first, last, [&](const auto& entry) { return entry.second == id; }));
      --nodes_.at(parent).children;
    }
    nodes_.erase(found);
    id = parent;
  }
}

}  // namespace tessera
