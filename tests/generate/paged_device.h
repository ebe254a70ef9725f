#pragma once
// A device without arithmetic whose pages count: a token's entry in a page is a digest of the entry before it, the token and the set of
// LongRoPE's factors; a row of logits is made of the entries that its query sees. So a wrong page, position or set shows in the next token,
// and what a text is given alone is a plain function of it: PagedModel::rows.
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "core/cache_spec.h"
#include "idle_device.h"
#include "ops/model.h"
#include "ops/selection.h"

namespace tessera {

constexpr TokenId kPagedVocab = 64;

inline uint64_t mix(uint64_t a, uint64_t b) {  // splitmix64's
  uint64_t x = a + 0x9e3779b97f4a7c15ull * (b + 1);
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

inline uint64_t entry_of(uint64_t before, TokenId token, bool long_set) {
  return mix(before, 2 * static_cast<uint64_t>(token) + (long_set ? 1 : 0));
}

// Three times in four the token after `token` is the most probable: texts repeat, and drafts come true.
inline std::vector<float> logits_of(uint64_t seen, TokenId token) {
  std::vector<float> logits(kPagedVocab);
  for (TokenId v = 0; v < kPagedVocab; ++v)
    logits[static_cast<size_t>(v)] = static_cast<float>(mix(seen, static_cast<uint64_t>(v)) >> 40) * 0x1p-22f;  // [0, 4)
  if (seen % 4 != 0) logits[static_cast<size_t>((token + 1) % kPagedVocab)] += 4;
  return logits;
}

// Two groups of layers, of which the second sees all before it, or has a window too.
struct PagedModel final : Model {
  explicit PagedModel(int64_t context = 100'000, std::optional<int64_t> boundary = {}, std::optional<int64_t> second_window = {})
      : Model({.vocab_size = kPagedVocab,
               .max_position_embeddings = context,
               .cache = {{{1, 32, 12}, {1, 32, second_window}}},
               .recompute_after = boundary}) {}
  Tensor forward(const Step&) const override { return {}; }

  // The logits of the last `count` tokens of a text of which all is known.
  std::vector<std::vector<float>> rows(std::span<const TokenId> text, size_t count) const {
    const bool long_set = spec_.recompute_after && std::ssize(text) > *spec_.recompute_after;
    std::vector<uint64_t> entries;
    for (const TokenId token : text) entries.push_back(entry_of(entries.empty() ? 0 : entries.back(), token, long_set));
    std::vector<std::vector<float>> found;
    for (size_t position = text.size() - count; position < text.size(); ++position) {
      uint64_t seen = 0;
      for (const CacheGroup& group : cache_groups(spec_.cache)) {
        uint64_t sum = 0;
        for (size_t i = 0; i <= position; ++i)
          if (!group.window || static_cast<int64_t>(position - i) < *group.window) sum += entries[i];
        seen = mix(seen, sum);
      }
      found.push_back(logits_of(seen, text[position]));
    }
    return found;
  }
};

class PagedDevice final : public IdleDevice {
 public:
  struct Slice {
    TokenId name;  // the text's first token
    int64_t position, count, known;
  };

  explicit PagedDevice(const Limits& limits) : limits_(limits) {}

  // A device that mixes, as the cpu does, and one whose chunks start aligned and whose decodes are Batches of their own, as the n150's.
  static Limits mixing() {
    return {.page_tokens = 8,
            .chunk_alignment = 1,
            .max_chunk = 512,
            .max_rows = 512,
            .max_logit_rows = 64,
            .free_rows = 512,
            .decode_tokens = 512};
  }
  static Limits alternating() {
    return {.page_tokens = 8,
            .chunk_alignment = 16,
            .max_chunk = 64,
            .max_rows = 64,
            .max_logit_rows = 16,
            .free_rows = 16,
            .decode_tokens = 1};
  }

  std::vector<Slice> last;                            // of the last Batch
  int64_t computed = 0;                               // tokens of all Batches
  std::function<void(const Batch&)> before_run = {};  // may throw

  std::string name() const override { return "paged"; }
  Limits limits() const override { return limits_; }

  std::shared_ptr<Storage> make_cache(const CacheSpec& spec, DataType, std::span<const int64_t> pages) override {
    const auto contents = std::make_shared<Contents>();
    const std::vector<CacheGroup> groups = cache_groups(spec);
    for (size_t group = 0; group < groups.size(); ++group) {
      contents->windows.push_back(groups[group].window);
      contents->entries.emplace_back(static_cast<size_t>(pages[group] * limits_.page_tokens));
    }
    return contents;
  }
  void copy_page(Storage& cache, size_t group, int32_t from, int32_t to) override {
    auto& entries = static_cast<Contents&>(cache).entries[group];
    for (int64_t slot = 0; slot < limits_.page_tokens; ++slot)
      entries[static_cast<size_t>(to * limits_.page_tokens + slot)] = entries[static_cast<size_t>(from * limits_.page_tokens + slot)];
  }

  void read_rows(const Tensor& logits, std::span<const int64_t> rows, std::span<float> out) override {
    for (const int64_t row : rows) std::ranges::copy(row_of(logits, row), out.begin() + row * kPagedVocab);
  }
  std::vector<TokenId> argmax(const Tensor& logits, std::span<const int64_t> rows) override {
    std::vector<TokenId> ids;
    for (const int64_t row : rows) ids.push_back(tessera::argmax(row_of(logits, row), kPagedVocab)[0]);
    return ids;
  }
  TopK topk(const Tensor& logits, std::span<const int64_t> rows, int64_t k) override {
    TopK all;
    for (const int64_t row : rows) {
      const TopK one = tessera::topk(row_of(logits, row), kPagedVocab, k);
      all.k = one.k;
      all.ids.insert(all.ids.end(), one.ids.begin(), one.ids.end());
      all.values.insert(all.values.end(), one.values.begin(), one.values.end());
    }
    return all;
  }

 private:
  struct Contents final : Storage {
    std::vector<std::optional<int64_t>> windows;
    std::vector<std::vector<uint64_t>> entries;  // by group: [page][slot]
  };
  struct Rows final : Storage {
    std::vector<std::vector<float>> rows;
  };

  static const std::vector<float>& row_of(const Tensor& logits, int64_t row) {
    return static_cast<Rows&>(logits.storage()).rows[static_cast<size_t>(row)];
  }

  uint64_t& entry(const Sequence& sequence, size_t group, int64_t position) const {
    const PageTable& table = sequence.table(group);
    const int32_t page = table.pages.at(static_cast<size_t>(position / limits_.page_tokens - table.first));
    auto& entries = static_cast<Contents&>(sequence.cache()).entries[group];
    return entries.at(static_cast<size_t>(page * limits_.page_tokens + position % limits_.page_tokens));
  }

  Tensor execute(const Model& model, const Batch& batch) override {
    if (before_run) before_run(batch);
    last.clear();
    const auto made = std::make_shared<Rows>();
    for (const Batch::Slice& slice : batch.slices) {
      const Sequence& sequence = *slice.sequence;
      last.push_back({sequence.tokens.front(), slice.position, slice.count, slice.rope_length});
      computed += slice.count;
      const bool long_set = model.spec().recompute_after && slice.rope_length > *model.spec().recompute_after;
      const auto& windows = static_cast<const Contents&>(sequence.cache()).windows;
      for (int64_t i = 0; i < slice.count; ++i) {
        const int64_t position = slice.position + i;
        const TokenId token = batch.tokens[static_cast<size_t>(slice.first + i)];
        uint64_t seen = 0;
        for (size_t group = 0; group < windows.size(); ++group) {
          entry(sequence, group, position) = entry_of(position == 0 ? 0 : entry(sequence, group, position - 1), token, long_set);
          if (i < slice.count - slice.logit_rows) continue;
          uint64_t sum = 0;
          for (int64_t j = windows[group] ? std::max<int64_t>(0, position - *windows[group] + 1) : 0; j <= position; ++j)
            sum += entry(sequence, group, j);
          seen = mix(seen, sum);
        }
        if (i >= slice.count - slice.logit_rows) made->rows.push_back(logits_of(seen, token));
      }
    }
    return Tensor(*this, {1, 1, std::ssize(made->rows), kPagedVocab}, DataType::float32, made);
  }

  Limits limits_;
};

}  // namespace tessera
