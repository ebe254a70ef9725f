#include "ttnn/card_step.h"

#include <algorithm>
#include <bit>

#include "ttnn/tiles.h"

namespace tessera::ttnn {
namespace {

using n150::kChunk;
using n150::kPageTokens;

constexpr int64_t kFewPages = 128;  // tables are this wide at least (8,192 tokens), then powers of two: a new width is a new program

// Rows of a chunk of `count` tokens at `position`: a power of two times 128, within the cache.
int64_t padded_rows(int64_t count, int64_t position, int64_t pages) {
  const int64_t bucket = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(round_up(count, kChunk))));
  const int64_t room = (pages * kPageTokens - position) / kChunk * kChunk;
  return std::max(std::min(bucket, room), round_up(count, kChunk));
}

}  // namespace

int64_t padded_count(int64_t count) { return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(count))); }

CardStep::CardStep(const Batch& batch, std::span<const int64_t> pages) : Step(batch) {
  const Batch::Slice& first = batch.slices.front();
  decodes_ = std::all_of(batch.slices.begin(), batch.slices.end(), [](const Batch::Slice& slice) { return slice.count == 1; });
  rows_ = decodes() ? padded_count(tokens()) : padded_rows(first.count, first.position, *std::max_element(pages.begin(), pages.end()));
  for (const Batch::Slice& slice : batch.slices)
    for (int64_t i = slice.count - slice.logit_rows; i < slice.count; ++i) wanted_rows_.push_back(slice.first + i);
  for (size_t group = 0; group < pages.size(); ++group) page_numbers_.push_back(make_page_numbers(group, pages[group]));
}

std::vector<int64_t> CardStep::kind() const {
  std::vector<int64_t> kind{rows_, !wanted_rows_.empty()};
  for (const PageNumbers& numbers : page_numbers_) kind.push_back(numbers.width);
  return kind;
}

CardStep::PageNumbers CardStep::make_page_numbers(size_t group, int64_t pages) const {
  PageNumbers made;
  const auto nobodys = static_cast<int32_t>(pages - 1);
  int64_t needed = 0;
  std::vector<std::vector<int32_t>> tables;
  for (const Batch::Slice& slice : batch().slices) {
    const PageTable& table = slice.sequence->table(group);
    std::vector<int32_t>& entries = tables.emplace_back(table.pages);
    int64_t position = slice.position - table.first * kPageTokens;
    if (!decodes()) {
      if (position % kChunk != 0) {  // a page before all that a query sees, so that the chunk starts where attention can start
        entries.insert(entries.begin(), nobodys);
        position += kPageTokens;
      }
      entries.resize(std::max(entries.size(), static_cast<size_t>((position + rows_) / kPageTokens)), nobodys);
      made.fill.assign(entries.begin() + position / kPageTokens, entries.begin() + (position + rows_) / kPageTokens);
    }
    made.positions.push_back(static_cast<int32_t>(position));
    needed = std::max(needed, static_cast<int64_t>(entries.size()));
  }
  if (decodes()) {  // of nobody: at position -1 TTNN neither writes to the cache nor attends
    made.positions.resize(static_cast<size_t>(rows_), -1);
    tables.resize(static_cast<size_t>(rows_));
  }
  // TTNN takes no table that is wider than the cache has pages.
  made.width = std::min<int64_t>(pages, std::bit_ceil(static_cast<uint64_t>(std::max(needed, kFewPages))));
  for (std::vector<int32_t>& entries : tables) {
    entries.resize(static_cast<size_t>(made.width), nobodys);
    made.table.insert(made.table.end(), entries.begin(), entries.end());
  }
  return made;
}

const RotaryRows& CardStep::rotary_rows(ThreadPool& pool, const Rotary& rotary) const {
  const auto [at, is_new] = rotary_rows_.try_emplace(&rotary);
  if (is_new) at->second = tessera::rotary_rows(pool, batch(), rotary, DataType::bfloat16, rows_);
  return at->second;
}

}  // namespace tessera::ttnn
