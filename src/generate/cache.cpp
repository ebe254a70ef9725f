#include "generate/cache.h"

#include <algorithm>
#include <limits>

#include "core/error.h"

namespace tessera {
namespace {

int64_t pages_of(int64_t tokens, int64_t page_tokens) { return (tokens + page_tokens - 1) / page_tokens; }

int64_t kept_behind(const CacheOptions& options, const Limits& limits) { return options.rewind_tokens + limits.chunk_alignment - 1; }

}  // namespace

std::vector<int64_t> page_counts(const CacheSpec& spec, const CacheOptions& options, const Limits& limits) {
  check(options.max_tokens >= 1 && options.max_sequences >= 1, "cache: ", options.max_tokens, " tokens for ", options.max_sequences,
        " sequences; both must be at least 1");
  std::vector<int64_t> counts;
  for (const CacheGroup& group : cache_groups(spec)) {
    int64_t pages = pages_of(options.max_tokens, limits.page_tokens) + options.max_sequences;
    if (group.window) {
      // What a sequence keeps, and the tokens of one Batch on their way.
      const int64_t kept = pages_of(*group.window + kept_behind(options, limits), limits.page_tokens) + 2;
      const int64_t coming = std::min(limits.max_rows, options.max_sequences * limits.max_chunk);
      pages = std::min(pages, options.max_sequences * kept + pages_of(coming, limits.page_tokens));
    }
    check<ResourceError>(pages <= std::numeric_limits<int32_t>::max(), "cache: ", pages,
                         " pages are more than can be numbered; ask for fewer tokens");
    counts.push_back(pages);
  }
  return counts;
}

CacheOptions cache_options(DataType dtype, int64_t context, int64_t sequences, const Limits& limits) {
  // A sequence fills whole pages: the pool's spare page a sequence is among them.
  const int64_t whole = pages_of(context, limits.page_tokens) * limits.page_tokens;
  return {.dtype = dtype, .max_tokens = sequences * (whole - limits.page_tokens + 1), .max_sequences = sequences};
}

Cache::Cache(Device& device, const CacheSpec& spec, const CacheOptions& options)
    : device_(device),
      spec_(spec),
      options_(options),
      page_tokens_(device.limits().page_tokens),
      kept_behind_(kept_behind(options, device.limits())) {
  const std::vector<int64_t> counts = page_counts(spec, options, device.limits());
  for (const CacheGroup& group : cache_groups(spec)) {
    const int64_t pages = counts[pools_.size()];
    Pool& pool = pools_.emplace_back();
    pool.window = group.window;
    pool.references.resize(static_cast<size_t>(pages));
    pool.free.resize(static_cast<size_t>(pages));
    for (int64_t i = 0; i < pages; ++i) pool.free[static_cast<size_t>(i)] = static_cast<int32_t>(pages - 1 - i);
  }
  contents_ = device.make_cache(spec, options.dtype, counts);
}

std::unique_ptr<Sequence> Cache::create() {
  {
    const std::lock_guard lock(mutex_);
    check<ResourceError>(sequences_ < options_.max_sequences, "cache: ", sequences_,
                         " sequences are alive, the most it was made for; end one first");
    ++sequences_;
  }
  try {
    return std::make_unique<Sequence>(*this, contents_, pools_.size());
  } catch (...) {
    const std::lock_guard lock(mutex_);
    --sequences_;
    throw;
  }
}

void Cache::check_own(const Sequence& sequence) const { check(&sequence.owner_ == this, "cache: the sequence is another cache's"); }

std::unique_ptr<Sequence> Cache::fork(const Sequence& sequence) {
  check_own(sequence);
  std::unique_ptr<Sequence> copy = create();
  copy->tokens = sequence.tokens;
  const std::lock_guard lock(mutex_);
  std::vector<PageTable> tables = sequence.tables_;  // whole before the copy owns any page
  copy->tables_ = std::move(tables);
  for (size_t group = 0; group < pools_.size(); ++group)
    for (int32_t page : copy->tables_[group].pages) ++pools_[group].references[static_cast<size_t>(page)];
  copy->commit(sequence.length(), sequence.rope_length());
  return copy;
}

int64_t Cache::pages_to_make(const Pool& pool, const PageTable& table, int64_t position, int64_t end) const {
  int64_t missing = 0;
  for (int64_t page = position / page_tokens_; page < pages_of(end, page_tokens_); ++page) {
    const int64_t index = page - table.first;
    const bool owned = index >= 0 && index < static_cast<int64_t>(table.pages.size()) &&
                       pool.references[static_cast<size_t>(table.pages[static_cast<size_t>(index)])] == 1;
    missing += !owned;
  }
  return missing;
}

int32_t Cache::take(Pool& pool) {
  const int32_t page = pool.free.back();
  pool.free.pop_back();
  pool.references[static_cast<size_t>(page)] = 1;
  return page;
}

void Cache::reserve(Sequence& sequence, int64_t position, int64_t count) {
  check(position >= 0 && position <= sequence.length() && count >= 1, "cache: cannot write ", count, " tokens at position ", position,
        " of a sequence with ", sequence.length());
  const std::lock_guard lock(mutex_);
  const int64_t end = position + count;
  for (size_t group = 0; group < pools_.size(); ++group) {
    const int64_t missing = pages_to_make(pools_[group], sequence.tables_[group], position, end);
    const auto free = static_cast<int64_t>(pools_[group].free.size());
    check<ResourceError>(missing <= free, "cache: a sequence of ", end, " tokens needs ", missing, " more pages of ", page_tokens_,
                         " tokens; ", free, " of ", pools_[group].references.size(),
                         " are free. Shorten it, end other sequences, or make the cache larger");
  }
  for (size_t group = 0; group < pools_.size(); ++group) {
    Pool& pool = pools_[group];
    PageTable& table = sequence.tables_[group];
    if (table.pages.empty()) table.first = position / page_tokens_;
    for (int64_t page = position / page_tokens_; page < pages_of(end, page_tokens_); ++page) {
      const auto index = static_cast<size_t>(page - table.first);
      if (index == table.pages.size()) {
        table.pages.push_back(-1);  // may fail: before a page is taken
        table.pages.back() = take(pool);
      } else if (const int32_t shared = table.pages[index]; pool.references[static_cast<size_t>(shared)] > 1) {
        table.pages[index] = take(pool);
        if (page * page_tokens_ < position) device_.copy_page(*contents_, group, shared, table.pages[index]);
        drop(pool, shared);
      }
    }
  }
}

void Cache::keep_range(Pool& pool, PageTable& table, int64_t begin_page, int64_t end_page) {
  const int64_t drop_front = std::clamp<int64_t>(begin_page - table.first, 0, static_cast<int64_t>(table.pages.size()));
  for (int64_t i = 0; i < drop_front; ++i) drop(pool, table.pages[static_cast<size_t>(i)]);
  table.pages.erase(table.pages.begin(), table.pages.begin() + drop_front);
  table.first += drop_front;
  while (table.first + static_cast<int64_t>(table.pages.size()) > end_page && !table.pages.empty()) {
    drop(pool, table.pages.back());
    table.pages.pop_back();
  }
  if (table.pages.empty()) table.first = 0;
}

void Cache::rewind(Sequence& sequence, int64_t position) {
  check_own(sequence);
  check(position >= 0 && position <= sequence.length(), "cache: cannot go back to position ", position, " of a sequence with ",
        sequence.length(), " tokens");
  if (position == sequence.length()) return;
  const std::lock_guard lock(mutex_);
  for (size_t group = 0; group < pools_.size(); ++group) {
    const int64_t first_seen = pools_[group].window ? std::max<int64_t>(0, position - *pools_[group].window + 1) : 0;
    if (position > 0 && first_seen / page_tokens_ < sequence.tables_[group].first) position = 0;
  }
  for (size_t group = 0; group < pools_.size(); ++group)
    keep_range(pools_[group], sequence.tables_[group], 0, pages_of(position, page_tokens_));
  sequence.commit(position, position == 0 ? 0 : sequence.rope_length());
}

void Cache::truncate(Sequence& sequence, int64_t length) {
  check(length >= 0 && length <= static_cast<int64_t>(sequence.tokens.size()), "cache: cannot cut a sequence of ", sequence.tokens.size(),
        " tokens to ", length);
  rewind(sequence, std::min(length, sequence.length()));
  sequence.tokens.resize(static_cast<size_t>(length));
}

void Cache::restore(Sequence& sequence, int64_t length, int64_t rope_length, std::span<const int64_t> first_pages) {
  check_own(sequence);
  check(sequence.length() == 0 && length >= 1 && length <= static_cast<int64_t>(sequence.tokens.size()) && rope_length >= length,
        "cache: ", length, " tokens, computed as of ", rope_length, ", cannot be cached for a sequence of ", sequence.tokens.size(),
        " with ", sequence.length(), " cached");
  check(first_pages.size() == pools_.size(), "cache: pages of ", first_pages.size(), " groups for ", pools_.size());
  const std::lock_guard lock(mutex_);
  const int64_t end = pages_of(length, page_tokens_);
  std::vector<PageTable> tables(pools_.size());
  for (size_t group = 0; group < pools_.size(); ++group) {
    const int64_t first_seen = pools_[group].window ? std::max<int64_t>(0, length - *pools_[group].window + 1) : 0;
    tables[group].first = first_pages[group];
    check(first_pages[group] >= 0 && first_pages[group] < end && first_pages[group] <= first_seen / page_tokens_, "cache: pages from ",
          first_pages[group], " on do not hold position ", first_seen, ", which is seen from ", length);
    tables[group].pages.resize(static_cast<size_t>(end - first_pages[group]));
    const size_t free = pools_[group].free.size() + sequence.tables_[group].pages.size();
    check<ResourceError>(tables[group].pages.size() <= free, "cache: a sequence of ", length, " tokens needs ", tables[group].pages.size(),
                         " pages of ", page_tokens_, " tokens; ", free, " of ", pools_[group].references.size(),
                         " are free. End other sequences, or make the cache larger");
  }
  for (size_t group = 0; group < pools_.size(); ++group) {
    keep_range(pools_[group], sequence.tables_[group], 0, 0);
    for (int32_t& page : tables[group].pages) page = take(pools_[group]);
  }
  sequence.tables_ = std::move(tables);
  sequence.commit(length, rope_length);
}

void Cache::drop_passed(Sequence& sequence) {
  const std::lock_guard lock(mutex_);
  for (size_t group = 0; group < pools_.size(); ++group) {
    if (!pools_[group].window) continue;
    const int64_t first_kept = std::max<int64_t>(0, sequence.length() - *pools_[group].window + 1 - kept_behind_);
    keep_range(pools_[group], sequence.tables_[group], first_kept / page_tokens_, std::numeric_limits<int64_t>::max());
  }
}

void Cache::release(Sequence& sequence) noexcept {
  const std::lock_guard lock(mutex_);
  for (size_t group = 0; group < pools_.size(); ++group)
    for (int32_t page : sequence.tables_[group].pages) drop(pools_[group], page);
  --sequences_;
}

int64_t Cache::sequences() const {
  const std::lock_guard lock(mutex_);
  return sequences_;
}

int64_t Cache::free_pages(size_t group) const {
  const std::lock_guard lock(mutex_);
  return static_cast<int64_t>(pools_[group].free.size());
}

}  // namespace tessera
