#include "generate/cache.h"

#include <algorithm>
#include <limits>
#include <new>
#include <numeric>
#include <utility>

#include "core/error.h"

namespace tessera {
namespace {

constexpr int64_t kKeptEvery = 1024;  // tokens

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
      step_(std::lcm(device.limits().page_tokens, device.limits().chunk_alignment)),
      kept_behind_(kept_behind(options, device.limits())),
      tree_(cache_groups(spec).size()) {
  const std::vector<int64_t> counts = page_counts(spec, options, device.limits());
  for (const CacheGroup& group : cache_groups(spec)) {
    const int64_t pages = counts[pools_.size()];
    Pool& pool = pools_.emplace_back();
    pool.window = group.window;
    pool.references.resize(static_cast<size_t>(pages));
    pool.free.resize(static_cast<size_t>(pages));
    for (int64_t i = 0; i < pages; ++i) pool.free[static_cast<size_t>(i)] = static_cast<int32_t>(pages - 1 - i);
    pool.nodes.resize(static_cast<size_t>(pages));
    pool.next.resize(static_cast<size_t>(pages + 2));
    pool.previous.resize(static_cast<size_t>(pages + 2));
    for (const Ring ring : {passed, kept})
      pool.next[static_cast<size_t>(pool.head(ring))] = pool.previous[static_cast<size_t>(pool.head(ring))] = pool.head(ring);
  }
  contents_ = device.make_cache(spec, options.dtype, counts);
}

std::unique_ptr<Sequence> Cache::create(std::string salt) {
  {
    const std::lock_guard lock(mutex_);
    check<ResourceError>(sequences_ < options_.max_sequences, "cache: ", sequences_,
                         " sequences are alive, the most it was made for; end one first");
    ++sequences_;
  }
  try {
    return std::make_unique<Sequence>(*this, contents_, pools_.size(), std::move(salt));
  } catch (...) {
    const std::lock_guard lock(mutex_);
    --sequences_;
    throw;
  }
}

void Cache::check_own(const Sequence& sequence) const { check(&sequence.owner_ == this, "cache: the sequence is another cache's"); }

std::unique_ptr<Sequence> Cache::fork(const Sequence& sequence) {
  check_own(sequence);
  std::unique_ptr<Sequence> copy = create(sequence.salt());
  copy->tokens = sequence.tokens;
  copy->nodes_ = sequence.nodes_;
  copy->marks_ = sequence.marks_;
  const std::lock_guard lock(mutex_);
  std::vector<PageTable> tables = sequence.tables_;  // whole before the copy owns any page
  copy->tables_ = std::move(tables);
  for (size_t group = 0; group < pools_.size(); ++group)
    for (int32_t page : copy->tables_[group].pages) hold(pools_[group], page);
  copy->commit(sequence.length(), sequence.rope_length());
  return copy;
}

// The pages of the deepest point up to `most` at which all that a sequence needs there can be found.
std::vector<PrefixTree::Id> Cache::find(std::span<const TokenId> tokens, std::string_view salt, int set, int64_t most) const {
  std::vector<PrefixTree::Id> nodes;
  if (!options_.prefix_cache) return nodes;
  std::vector<int64_t> gap(pools_.size());  // by group: behind the last page that is not there
  size_t deepest = 0;
  PrefixTree::Id node = tree_.find_root(salt, set);
  for (int64_t end = page_tokens_; node != 0 && end <= std::min(most, static_cast<int64_t>(tokens.size())); end += page_tokens_) {
    node = tree_.find(node, tokens.subspan(static_cast<size_t>(end - page_tokens_), static_cast<size_t>(page_tokens_)));
    if (node == 0) break;
    nodes.push_back(node);
    bool all = end % step_ == 0;
    for (size_t group = 0; group < pools_.size(); ++group) {
      if (tree_.page(node, group) < 0) gap[group] = end;
      all = all && pools_[group].first_seen(end) / page_tokens_ * page_tokens_ >= gap[group];
    }
    if (all) deepest = nodes.size();
  }
  nodes.resize(deepest);
  return nodes;
}

Cache::Hit Cache::cached(std::span<const TokenId> tokens, std::string_view salt, int set, int64_t most) const {
  const std::lock_guard lock(mutex_);
  const std::vector<PrefixTree::Id> nodes = find(tokens, salt, set, most);
  Hit hit{static_cast<int64_t>(nodes.size()) * page_tokens_, std::vector<int64_t>(pools_.size())};
  for (size_t group = 0; group < pools_.size(); ++group)
    for (auto i = static_cast<size_t>(pools_[group].first_seen(hit.tokens) / page_tokens_); i < nodes.size(); ++i)
      hit.free_pages[group] += pools_[group].references[static_cast<size_t>(tree_.page(nodes[i], group))] == 0;
  return hit;
}

int64_t Cache::adopt(Sequence& sequence, int64_t most, int set) {
  check_own(sequence);
  check(sequence.length() == 0, "cache: pages cannot be found for a sequence of which ", sequence.length(), " tokens are cached");
  const std::lock_guard lock(mutex_);
  std::vector<PrefixTree::Id> nodes = find(sequence.tokens, sequence.salt(), set, most);
  const int64_t tokens = static_cast<int64_t>(nodes.size()) * page_tokens_;
  if (tokens == 0) return 0;
  std::vector<PageTable> tables(pools_.size());  // whole before the sequence owns any page
  for (size_t group = 0; group < pools_.size(); ++group) {
    tables[group].first = pools_[group].first_seen(tokens) / page_tokens_;
    for (auto i = static_cast<size_t>(tables[group].first); i < nodes.size(); ++i)
      tables[group].pages.push_back(tree_.page(nodes[i], group));
    if (tables[group].pages.empty()) tables[group].first = 0;
  }
  for (size_t group = 0; group < pools_.size(); ++group) {
    drop_back(pools_[group], sequence.tables_[group], 0);  // made for a forward that failed
    for (const int32_t page : tables[group].pages) hold(pools_[group], page);
  }
  sequence.tables_ = std::move(tables);
  sequence.nodes_ = std::move(nodes);
  sequence.commit(tokens, static_cast<int64_t>(sequence.tokens.size()));
  return tokens;
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

std::vector<int64_t> Cache::pages_needed(const Sequence& sequence, int64_t position, int64_t count) const {
  const std::lock_guard lock(mutex_);
  std::vector<int64_t> pages;
  for (size_t group = 0; group < pools_.size(); ++group)
    pages.push_back(pages_to_make(pools_[group], sequence.tables_[group], position, position + count));
  return pages;
}

bool Cache::has_room(std::span<const int64_t> pages) const {
  const std::lock_guard lock(mutex_);
  for (size_t group = 0; group < pools_.size(); ++group)
    if (pages[group] > pools_[group].free_pages()) return false;
  return true;
}

int64_t Cache::most_pages(size_t group) const {
  const int64_t all = total_pages(group);
  if (!pools_[group].window) return all;
  return std::min(all, pages_of(*pools_[group].window + kept_behind_ + device_.limits().max_chunk, page_tokens_) + 2);
}

void Cache::hold(Pool& pool, int32_t page) noexcept {
  if (pool.references[static_cast<size_t>(page)]++ == 0) unlink(pool, page);
}

void Cache::drop(Pool& pool, int32_t page, Ring ring) noexcept {
  const auto at = static_cast<size_t>(page);
  if (--pool.references[at] > 0) return;
  if (pool.nodes[at] == 0) return pool.free.push_back(page);  // there is room for all pages
  const int32_t head = pool.head(ring), last = pool.previous[static_cast<size_t>(head)];
  pool.next[at] = head;
  pool.previous[at] = last;
  pool.next[static_cast<size_t>(last)] = pool.previous[static_cast<size_t>(head)] = page;
  ++pool.findable;
}

void Cache::unlink(Pool& pool, int32_t page) noexcept {
  const int32_t next = pool.next[static_cast<size_t>(page)], previous = pool.previous[static_cast<size_t>(page)];
  pool.next[static_cast<size_t>(previous)] = next;
  pool.previous[static_cast<size_t>(next)] = previous;
  --pool.findable;
}

void Cache::forget(size_t group, int32_t page) noexcept {
  if (const PrefixTree::Id node = std::exchange(pools_[group].nodes[static_cast<size_t>(page)], 0)) tree_.forget_page(node, group);
}

int32_t Cache::take(size_t group) noexcept {
  Pool& pool = pools_[group];
  int32_t page;
  if (!pool.free.empty()) {
    page = pool.free.back();
    pool.free.pop_back();
  } else {
    const auto first = [&](Ring ring) { return pool.next[static_cast<size_t>(pool.head(ring))]; };
    page = first(passed) != pool.head(passed) ? first(passed) : first(kept);
    unlink(pool, page);
    forget(group, page);
  }
  pool.references[static_cast<size_t>(page)] = 1;
  return page;
}

void Cache::reserve(Sequence& sequence, int64_t position, int64_t count) {
  check(position >= 0 && position <= sequence.length() && count >= 1, "cache: cannot write ", count, " tokens at position ", position,
        " of a sequence with ", sequence.length());
  const std::lock_guard lock(mutex_);
  const int64_t end = position + count;
  std::vector<int64_t> missing;
  for (size_t group = 0; group < pools_.size(); ++group) {
    missing.push_back(pages_to_make(pools_[group], sequence.tables_[group], position, end));
    const int64_t free = pools_[group].free_pages();
    check<ResourceError>(missing[group] <= free, "cache: a sequence of ", end, " tokens needs ", missing[group], " more pages of ",
                         page_tokens_, " tokens; ", free, " of ", pools_[group].references.size(),
                         " are free. Shorten it, end other sequences, or make the cache larger");
  }
  sequence.nodes_.resize(std::min(sequence.nodes_.size(), static_cast<size_t>(position / page_tokens_)));
  for (size_t group = 0; group < pools_.size(); ++group) {
    Pool& pool = pools_[group];
    PageTable& table = sequence.tables_[group];
    if (table.pages.empty()) table.first = position / page_tokens_;
    for (int64_t page = position / page_tokens_; page < pages_of(end, page_tokens_); ++page) {
      const auto index = static_cast<size_t>(page - table.first);
      if (index == table.pages.size()) {
        table.pages.push_back(-1);  // may fail: before a page is taken
        table.pages.back() = take(group);
        --missing[group];
        continue;
      }
      const int32_t old = table.pages[index];
      const bool shared = pool.references[static_cast<size_t>(old)] > 1;
      if (!shared && pool.nodes[static_cast<size_t>(old)] == 0) continue;
      if (!shared && pool.free_pages() <= missing[group]) {  // none is left for a copy
        forget(group, old);
        continue;
      }
      const int32_t copy = take(group);
      missing[group] -= shared;
      try {
        if (page * page_tokens_ < position) device_.copy_page(*contents_, group, old, copy);
      } catch (...) {
        drop(pool, copy, kept);
        throw;
      }
      table.pages[index] = copy;
      drop(pool, old, kept);
    }
  }
}

void Cache::drop_front(Pool& pool, Sequence& sequence, PageTable& table, int64_t begin_page) noexcept {
  const int64_t count = std::clamp<int64_t>(begin_page - table.first, 0, static_cast<int64_t>(table.pages.size()));
  for (int64_t i = 0; i < count; ++i)
    drop(pool, table.pages[static_cast<size_t>(i)], is_kept(pool, sequence, table.first + i) ? kept : passed);
  table.pages.erase(table.pages.begin(), table.pages.begin() + count);
  table.first = table.pages.empty() ? 0 : table.first + count;
}

// The deepest first: beginnings, which most texts share, are to stay the longest.
void Cache::drop_back(Pool& pool, PageTable& table, int64_t end_page) noexcept {
  while (!table.pages.empty() && table.first + static_cast<int64_t>(table.pages.size()) > end_page) {
    drop(pool, table.pages.back(), kept);
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
  for (size_t group = 0; group < pools_.size(); ++group)
    if (position > 0 && pools_[group].first_seen(position) / page_tokens_ < sequence.tables_[group].first) position = 0;
  for (size_t group = 0; group < pools_.size(); ++group)
    drop_back(pools_[group], sequence.tables_[group], pages_of(position, page_tokens_));
  sequence.commit(position, position == 0 ? 0 : sequence.rope_length());
}

void Cache::truncate(Sequence& sequence, int64_t length) {
  check(length >= 0 && length <= static_cast<int64_t>(sequence.tokens.size()), "cache: cannot cut a sequence of ", sequence.tokens.size(),
        " tokens to ", length);
  rewind(sequence, std::min(length, sequence.length()));
  sequence.tokens.resize(static_cast<size_t>(length));
}

// Memory may run out here: what is not entered is computed again one day.
void Cache::enter(Sequence& sequence, int64_t settled, int set) noexcept {
  const int64_t tokens = std::min({settled, sequence.length(), static_cast<int64_t>(sequence.tokens.size())});
  const auto whole = static_cast<size_t>(std::max<int64_t>(tokens, 0) / page_tokens_);
  std::vector<PrefixTree::Id>& nodes = sequence.nodes_;
  if (nodes.size() >= whole) return;
  if (!nodes.empty() && !tree_.contains(nodes.back())) nodes.clear();  // other sequences' pages, which are gone: from the root again
  PrefixTree::Id node = nodes.empty() ? 0 : nodes.back();
  try {
    nodes.reserve(whole);
    if (node == 0) node = tree_.make_root(sequence.salt(), set);
    while (nodes.size() < whole) {
      const auto page = static_cast<int64_t>(nodes.size());
      node =
          tree_.make(node, std::span(sequence.tokens).subspan(static_cast<size_t>(page * page_tokens_), static_cast<size_t>(page_tokens_)));
      nodes.push_back(node);
      for (size_t group = 0; group < pools_.size(); ++group) {
        const PageTable& table = sequence.tables_[group];
        const int64_t index = page - table.first;
        if (index < 0 || index >= static_cast<int64_t>(table.pages.size()) || tree_.page(node, group) >= 0) continue;
        const int32_t own = table.pages[static_cast<size_t>(index)];
        tree_.set_page(node, group, own);
        pools_[group].nodes[static_cast<size_t>(own)] = node;
      }
    }
  } catch (const std::bad_alloc&) {
  }
  tree_.prune(node);
}

// Whether a text that goes on at a kept point needs this page of a windowed group.
bool Cache::is_kept(const Pool& pool, const Sequence& sequence, int64_t page) const {
  const auto needed = [&](int64_t point, int64_t end) {
    return page >= pool.first_seen(point) / page_tokens_ && page < end / page_tokens_;
  };
  const int64_t every = pages_of(kKeptEvery, step_) * step_;
  const int64_t next = pages_of((page + 1) * page_tokens_, every) * every;
  if (needed(next, next)) return true;
  // The same text again computes its last token, and so may go on a step before.
  for (const int64_t mark : sequence.marks_)
    if (mark > 0 && needed((mark - 1) / step_ * step_, mark)) return true;
  return false;
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
    const int64_t first_seen = pools_[group].first_seen(length);
    tables[group].first = first_pages[group];
    check(first_pages[group] >= 0 && first_pages[group] < end && first_pages[group] <= first_seen / page_tokens_, "cache: pages from ",
          first_pages[group], " on do not hold position ", first_seen, ", which is seen from ", length);
    tables[group].pages.resize(static_cast<size_t>(end - first_pages[group]));
    const int64_t free = pools_[group].free_pages() + static_cast<int64_t>(sequence.tables_[group].pages.size());
    check<ResourceError>(static_cast<int64_t>(tables[group].pages.size()) <= free, "cache: a sequence of ", length, " tokens needs ",
                         tables[group].pages.size(), " pages of ", page_tokens_, " tokens; ", free, " of ", pools_[group].references.size(),
                         " are free. End other sequences, or make the cache larger");
  }
  for (size_t group = 0; group < pools_.size(); ++group) {
    drop_back(pools_[group], sequence.tables_[group], 0);
    for (int32_t& page : tables[group].pages) page = take(group);
  }
  sequence.tables_ = std::move(tables);
  sequence.nodes_.clear();
  sequence.commit(length, rope_length);
}

void Cache::advance(Sequence& sequence, int64_t settled, int set) {
  check_own(sequence);
  const std::lock_guard lock(mutex_);
  if (options_.prefix_cache) enter(sequence, settled, set);
  for (size_t group = 0; group < pools_.size(); ++group) {
    if (!pools_[group].window) continue;
    const int64_t first_kept = std::max<int64_t>(0, pools_[group].first_seen(sequence.length()) - kept_behind_);
    drop_front(pools_[group], sequence, sequence.tables_[group], first_kept / page_tokens_);
  }
}

void Cache::mark(Sequence& sequence, int64_t position) {
  check_own(sequence);
  auto& marks = sequence.marks_;
  if (marks.back() == position) return;
  std::rotate(marks.begin(), marks.begin() + 1, marks.end());
  marks.back() = position;
}

void Cache::release(Sequence& sequence) noexcept {
  const std::lock_guard lock(mutex_);
  for (size_t group = 0; group < pools_.size(); ++group) drop_back(pools_[group], sequence.tables_[group], 0);
  --sequences_;
}

int64_t Cache::sequences() const {
  const std::lock_guard lock(mutex_);
  return sequences_;
}

int64_t Cache::free_pages(size_t group) const {
  const std::lock_guard lock(mutex_);
  return pools_[group].free_pages();
}

}  // namespace tessera
