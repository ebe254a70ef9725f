#pragma once
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/types.h"

namespace tessera {

// Which texts the pages of a cache hold: a chain of nodes a text, each a page's tokens behind its parent's, from a root of one salt and one
// set of LongRoPE's factors. A node outlives its pages as long as others stand behind it: a windowed group's early pages are gone by
// design. The hash finds a node, its parent and its tokens decide.
class PrefixTree {
 public:
  using Id = uint64_t;  // of a node; never used again; 0: of none

  explicit PrefixTree(size_t groups) : groups_(groups) {}

  // 0: there is none.
  Id find_root(const std::string& salt, int set) const;
  Id find(Id parent, std::span<const TokenId> tokens) const;
  // The same, made if need be; `parent` is there. One that gets neither a page nor a child is to be pruned.
  Id root(const std::string& salt, int set);
  Id enter(Id parent, std::span<const TokenId> tokens);

  bool has(Id id) const { return nodes_.contains(id); }
  int32_t page(Id id, size_t group) const { return nodes_.at(id).pages[group]; }  // -1: gone
  void set_page(Id id, size_t group, int32_t page) { nodes_.at(id).pages[group] = page; }

  // Forgets the node, and those before it, if nothing of them is left.
  void prune(Id id);

  size_t size() const { return nodes_.size(); }

 private:
  using Root = std::pair<std::string, int>;
  struct Node {
    Id parent;
    uint64_t hash;
    std::vector<TokenId> tokens;
    std::vector<int32_t> pages;
    int64_t children = 0;
    const Root* root = nullptr;  // of a root: its key
  };

  size_t groups_;
  Id last_ = 0;
  std::map<Root, Id> roots_;
  std::unordered_map<Id, Node> nodes_;
  std::unordered_multimap<uint64_t, Id> by_hash_;
};

}  // namespace tessera
