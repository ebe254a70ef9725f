#pragma once
#include <cstdint>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/types.h"

namespace tessera {

// The texts whose pages can be found again, a page's token ids a node behind those before it. A node has at most one page of each group of
// layers; it outlives them while other nodes stand behind it, and goes when it has neither. A hash finds, and the ids decide: two texts
// share a node only if they are equal from their beginning, with the same salt and the same set of LongRoPE's factors.
class PrefixTree {
 public:
  using Id = uint64_t;  // of a node; 0: none. It is never used again: that of a node that is gone finds nothing

  // Hashes have the bits of `hash_mask`: with none, as a test wants it, all texts collide.
  explicit PrefixTree(size_t groups, uint64_t hash_mask = ~uint64_t{0});

  // 0 where there is none. What texts of a salt and a set begin behind is a node too, without pages.
  Id find_root(std::string_view salt, int set) const;
  Id find(Id parent, std::span<const TokenId> tokens) const;
  bool contains(Id node) const { return nodes_.contains(node); }
  int32_t page(Id node, size_t group) const;  // -1: none

  // Found, or made. Throws std::bad_alloc, and nothing is changed; who makes a node and gives it no page ends with prune.
  Id make_root(std::string_view salt, int set);
  Id make(Id parent, std::span<const TokenId> tokens);
  void set_page(Id node, size_t group, int32_t page) { nodes_.at(node).pages[group] = page; }

  void forget_page(Id node, size_t group) noexcept;
  // Takes the node away if it has neither pages nor nodes behind it, and so on with its parent. One that is gone, and 0, are passed over.
  void prune(Id node) noexcept;

  size_t size() const { return nodes_.size(); }

 private:
  struct Node {
    Id parent;
    std::vector<TokenId> tokens;
    std::vector<int32_t> pages;  // by group; -1: none
    int64_t children = 0;
  };
  uint64_t hash(Id parent, std::span<const TokenId> tokens) const;

  size_t groups_;
  uint64_t hash_mask_, key_;
  Id last_ = 0;
  std::unordered_map<Id, Node> nodes_;
  std::unordered_multimap<uint64_t, Id> by_hash_;
};

}  // namespace tessera
