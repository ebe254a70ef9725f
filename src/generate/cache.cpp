#include "generate/cache.h"

#include <algorithm>
#include <limits>
#include <new>
#include <utility>

#include "core/error.h"

namespace tessera {
namespace {

constexpr int64_t kKeptEvery = 1024;  // tokens: there a windowed text is found again

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
      limits_(device.limits()),
      page_tokens_(limits_.page_tokens),
      kept_behind_(kept_behind(options, limits_)),
      tree_(cache_groups(spec).size()) {
  const std::vector<int64_t> counts = page_counts(spec, options, limits_);
  for (const CacheGroup& group : cache_groups(spec)) {
    const int64_t pages = counts[pools_.size()];
    Pool& pool = pools_.emplace_back();
    pool.window = group.window;
    pool.pages.resize(static_cast<size_t>(pages));
    pool.free.resize(static_cast<size_t>(pages));
    for (int64_t i = 0; i < pages; ++i) pool.free[static_cast<size_t>(i)] = static_cast<int32_t>(pages - 1 - i);
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
    auto sequence = std::make_unique<Sequence>(*this, contents_, pools_.size());
    sequence->salt_ = std::move(salt);
    return sequence;
  } catch (...) {
    const std::lock_guard lock(mutex_);
    --sequences_;
    throw;
  }
}

void Cache::check_own(const Sequence& sequence) const { check(&sequence.owner_ == this, "cache: the sequence is another cache's"); }

std::unique_ptr<Sequence> Cache::fork(const Sequence& sequence) {
  check_own(sequence);
  std::unique_ptr<Sequence> copy = create(sequence.salt_);
  copy->tokens = sequence.tokens;
  copy->entries_ = sequence.entries_;
  copy->marks_ = sequence.marks_;
  const std::lock_guard lock(mutex_);
  std::vector<PageTable> tables = sequence.tables_;  // whole before the copy owns any page
  copy->tables_ = std::move(tables);
  for (size_t group = 0; group < pools_.size(); ++group)
    for (int32_t page : copy->tables_[group].pages) ++pools_[group].at(page).references;
  copy->commit(sequence.length(), sequence.rope_length());
  return copy;
}

void Cache::Pool::put(int32_t page, bool keep) {
  List& list = keep ? kept : passed;
  Page& own = at(page);
  own.kept = keep;
  own.before = list.last;
  own.after = -1;
  (list.last >= 0 ? at(list.last).after : list.first) = page;
  list.last = page;
  ++list.size;
}

void Cache::Pool::remove(int32_t page) {
  const Page& own = at(page);
  List& list = own.kept ? kept : passed;
  (own.before >= 0 ? at(own.before).after : list.first) = own.after;
  (own.after >= 0 ? at(own.after).before : list.last) = own.before;
  --list.size;
}

// Nobody finds the page any more.
void Cache::forget(size_t group, int32_t page) {
  const PrefixTree::Id entry = std::exchange(pools_[group].at(page).entry, 0);
  if (entry == 0) return;
  tree_.set_page(entry, group, -1);
  tree_.prune(entry);
}

void Cache::drop(size_t group, int32_t page, bool keep) {
  Pool& pool = pools_[group];
  if (--pool.at(page).references > 0) return;
  if (pool.at(page).entry == 0)
    pool.free.push_back(page);  // there is room: it has stood there
  else
    pool.put(page, keep);
}

int32_t Cache::take(size_t group) {
  Pool& pool = pools_[group];
  int32_t page;
  if (!pool.free.empty()) {
    page = pool.free.back();
    pool.free.pop_back();
  } else {
    page = pool.passed.size > 0 ? pool.passed.first : pool.kept.first;
    pool.remove(page);
    forget(group, page);
  }
  pool.at(page).references = 1;
  return page;
}

// Pages that must be taken: those that are not there, and copies of shared ones.
int64_t Cache::pages_to_make(const Pool& pool, const PageTable& table, int64_t position, int64_t end) const {
  int64_t missing = 0;
  for (int64_t page = position / page_tokens_; page < pages_of(end, page_tokens_); ++page) {
    const int64_t index = page - table.first;
    const bool owned =
        index >= 0 && index < static_cast<int64_t>(table.pages.size()) && pool.at(table.pages[static_cast<size_t>(index)]).references == 1;
    missing += !owned;
  }
  return missing;
}

std::vector<int64_t> Cache::pages_needed(const Sequence& sequence, int64_t position, int64_t count) const {
  const std::lock_guard lock(mutex_);
  std::vector<int64_t> needed;
  for (size_t group = 0; group < pools_.size(); ++group)
    needed.push_back(pages_to_make(pools_[group], sequence.tables_[group], position, position + count));
  return needed;
}

bool Cache::has_room(std::span<const int64_t> pages) const {
  const std::lock_guard lock(mutex_);
  for (size_t group = 0; group < pools_.size(); ++group)
    if (pages[group] > pools_[group].free_pages()) return false;
  return true;
}

int64_t Cache::most_pages(size_t group) const {
  const Pool& pool = pools_[group];
  const auto all = static_cast<int64_t>(pool.pages.size());
  return pool.window ? std::min(all, pages_of(*pool.window + kept_behind_ + limits_.max_chunk, page_tokens_) + 2) : all;
}

void Cache::reserve(Sequence& sequence, int64_t position, int64_t count) {
  check(position >= 0 && position <= sequence.length() && count >= 1, "cache: cannot write ", count, " tokens at position ", position,
        " of a sequence with ", sequence.length());
  const std::lock_guard lock(mutex_);
  const int64_t end = position + count;
  std::vector<int64_t> spare;  // pages that are left for copies of entered ones
  for (size_t group = 0; group < pools_.size(); ++group) {
    const int64_t missing = pages_to_make(pools_[group], sequence.tables_[group], position, end);
    const int64_t free = pools_[group].free_pages();
    check<ResourceError>(missing <= free, "cache: a sequence of ", end, " tokens needs ", missing, " more pages of ", page_tokens_,
                         " tokens; ", free, " of ", pools_[group].pages.size(),
                         " are free. Shorten it, end other sequences, or make the cache larger");
    spare.push_back(free - missing);
  }
  for (size_t group = 0; group < pools_.size(); ++group) {
    Pool& pool = pools_[group];
    PageTable& table = sequence.tables_[group];
    if (table.pages.empty()) table.first = position / page_tokens_;
    for (int64_t page = position / page_tokens_; page < pages_of(end, page_tokens_); ++page) {
      const auto index = static_cast<size_t>(page - table.first);
      if (index == table.pages.size()) {
        table.pages.push_back(-1);  // may fail: before a page is taken
        table.pages.back() = take(group);
        continue;
      }
      const int32_t old = table.pages[index];
      const bool shared = pool.at(old).references > 1, entered = pool.at(old).entry != 0;
      if (shared || (entered && spare[group] > 0)) {
        if (!shared) --spare[group];
        table.pages[index] = take(group);
        if (page * page_tokens_ < position) device_.copy_page(*contents_, group, old, table.pages[index]);
        drop(group, old);
      } else if (entered) {
        forget(group, old);  // it is the last
      }
    }
  }
}

// Of windowed groups the pages before `begin_page` are from the midst of a text, but for those that its kept places see.
void Cache::keep_range(size_t group, PageTable& table, int64_t begin_page, int64_t end_page, const std::vector<int64_t>& marks) {
  const Pool& pool = pools_[group];
  const auto is_kept = [&](int64_t page) {
    const int64_t end = (page + 1) * page_tokens_;
    const auto sees = [&](int64_t place) { return end <= place && first_seen(pool, place) <= page; };
    return sees((end + kKeptEvery - 1) / kKeptEvery * kKeptEvery) || std::any_of(marks.begin(), marks.end(), sees);
  };
  const int64_t drop_front = std::clamp<int64_t>(begin_page - table.first, 0, static_cast<int64_t>(table.pages.size()));
  for (int64_t i = 0; i < drop_front; ++i) drop(group, table.pages[static_cast<size_t>(i)], is_kept(table.first + i));
  table.pages.erase(table.pages.begin(), table.pages.begin() + drop_front);
  table.first += drop_front;
  while (table.first + static_cast<int64_t>(table.pages.size()) > end_page && !table.pages.empty()) {
    drop(group, table.pages.back());
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
    if (position > 0 && first_seen(pools_[group], position) < sequence.tables_[group].first) position = 0;
  for (size_t group = 0; group < pools_.size(); ++group)
    keep_range(group, sequence.tables_[group], 0, pages_of(position, page_tokens_), sequence.marks_);
  const auto whole = static_cast<size_t>(position / page_tokens_);
  sequence.entries_.resize(std::min(sequence.entries_.size(), whole));
  std::erase_if(sequence.marks_, [&](int64_t mark) { return mark > position; });
  sequence.commit(position, position == 0 ? 0 : sequence.rope_length());
}

void Cache::truncate(Sequence& sequence, int64_t length) {
  check(length >= 0 && length <= static_cast<int64_t>(sequence.tokens.size()), "cache: cannot cut a sequence of ", sequence.tokens.size(),
        " tokens to ", length);
  rewind(sequence, std::min(length, sequence.length()));
  sequence.tokens.resize(static_cast<size_t>(length));
}

// The entries of the pages that are there for a beginning of `tokens`, as far as all groups can go on from it.
std::vector<PrefixTree::Id> Cache::walk(std::span<const TokenId> tokens, const std::string& salt, int set, int64_t most) const {
  std::vector<PrefixTree::Id> chain;
  const auto page = static_cast<size_t>(page_tokens_);
  const auto most_chain = static_cast<size_t>(std::clamp<int64_t>(most, 0, static_cast<int64_t>(tokens.size()))) / page;
  for (PrefixTree::Id id = tree_.find_root(salt, set); id != 0 && chain.size() < most_chain;) {
    id = tree_.find(id, tokens.subspan(chain.size() * page, page));
    if (id != 0) chain.push_back(id);
  }
  // The longest that begins a chunk and whose pages are there: of each group, how many stand in a row up to a place.
  size_t longest = 0;
  std::vector<int64_t> in_a_row(pools_.size());
  for (size_t length = 1; length <= chain.size(); ++length) {
    const auto position = static_cast<int64_t>(length) * page_tokens_;
    bool whole = position % limits_.chunk_alignment == 0;
    for (size_t group = 0; group < pools_.size(); ++group) {
      in_a_row[group] = tree_.page(chain[length - 1], group) >= 0 ? in_a_row[group] + 1 : 0;
      whole = whole && static_cast<int64_t>(length) - first_seen(pools_[group], position) <= in_a_row[group];
    }
    if (whole) longest = length;
  }
  chain.resize(longest);
  return chain;
}

Cache::Found Cache::find(std::span<const TokenId> tokens, const std::string& salt, int set, int64_t most) const {
  Found found{.tokens = 0, .free_pages = std::vector<int64_t>(pools_.size())};
  if (!options_.prefix_cache) return found;
  const std::lock_guard lock(mutex_);
  const std::vector<PrefixTree::Id> chain = walk(tokens, salt, set, most);
  found.tokens = static_cast<int64_t>(chain.size()) * page_tokens_;
  for (size_t group = 0; group < pools_.size(); ++group)
    for (auto i = static_cast<size_t>(first_seen(pools_[group], found.tokens)); i < chain.size(); ++i)
      found.free_pages[group] += pools_[group].at(tree_.page(chain[i], group)).references == 0;
  return found;
}

void Cache::adopt(Sequence& sequence, int set, int64_t most) {
  check_own(sequence);
  check(sequence.length() == 0, "cache: a sequence of ", sequence.length(), " cached tokens adopts no pages");
  if (!options_.prefix_cache) return;
  const std::lock_guard lock(mutex_);
  std::vector<PrefixTree::Id> chain = walk(sequence.tokens, sequence.salt_, set, most);
  if (chain.empty()) return;
  const int64_t tokens = static_cast<int64_t>(chain.size()) * page_tokens_;
  std::vector<PageTable> tables(pools_.size());  // whole before the sequence owns any page
  for (size_t group = 0; group < pools_.size(); ++group) {
    tables[group].first = first_seen(pools_[group], tokens);
    for (auto i = static_cast<size_t>(tables[group].first); i < chain.size(); ++i)
      tables[group].pages.push_back(tree_.page(chain[i], group));
  }
  for (size_t group = 0; group < pools_.size(); ++group)
    for (const int32_t page : tables[group].pages)
      if (pools_[group].at(page).references++ == 0) pools_[group].remove(page);
  sequence.tables_ = std::move(tables);
  sequence.entries_ = std::move(chain);
  sequence.commit(tokens, static_cast<int64_t>(sequence.tokens.size()));
}

void Cache::mark(Sequence& sequence, int64_t position) {
  constexpr size_t kMost = 4;
  if (!options_.prefix_cache || position <= 1) return;
  if (sequence.marks_.size() == kMost) sequence.marks_.erase(sequence.marks_.begin());
  sequence.marks_.push_back((position - 1) / page_tokens_ * page_tokens_);  // the same prompt again computes its last token
}

void Cache::enter(Sequence& sequence, int set, int64_t settled) {
  const auto whole = static_cast<size_t>(std::min(sequence.length(), settled) / page_tokens_), page = static_cast<size_t>(page_tokens_);
  std::vector<PrefixTree::Id>& entries = sequence.entries_;
  if (entries.size() >= whole) return;
  entries.reserve(whole);
  PrefixTree::Id parent = entries.empty() ? tree_.root(sequence.salt_, set) : entries.back();
  while (entries.size() < whole && tree_.has(parent)) {  // an entry that was forgotten is nobody's parent
    const size_t i = entries.size();
    const PrefixTree::Id own = tree_.enter(parent, std::span<const TokenId>(sequence.tokens).subspan(i * page, page));
    for (size_t group = 0; group < pools_.size(); ++group) {
      const PageTable& table = sequence.tables_[group];
      const int64_t index = static_cast<int64_t>(i) - table.first;
      if (index < 0 || index >= static_cast<int64_t>(table.pages.size()) || tree_.page(own, group) >= 0) continue;
      const int32_t number = table.pages[static_cast<size_t>(index)];
      if (pools_[group].at(number).entry != 0) continue;
      tree_.set_page(own, group, number);
      pools_[group].at(number).entry = own;
    }
    tree_.prune(own);  // if none was given to it
    entries.push_back(own);
    parent = own;
  }
}

void Cache::advance(Sequence& sequence, int set, int64_t settled) {
  const std::lock_guard lock(mutex_);
  if (options_.prefix_cache) {
    try {
      enter(sequence, set, settled);
    } catch (const std::bad_alloc&) {  // they are not found, and nothing else
    }
  }
  for (size_t group = 0; group < pools_.size(); ++group) {
    if (!pools_[group].window) continue;
    const int64_t first_kept = std::max<int64_t>(0, sequence.length() - *pools_[group].window + 1 - kept_behind_);
    keep_range(group, sequence.tables_[group], first_kept / page_tokens_, std::numeric_limits<int64_t>::max(), sequence.marks_);
  }
}

// The ends of texts go before their beginnings.
void Cache::release(Sequence& sequence) noexcept {
  const std::lock_guard lock(mutex_);
  for (size_t group = 0; group < pools_.size(); ++group)
    for (auto page = sequence.tables_[group].pages.rbegin(); page != sequence.tables_[group].pages.rend(); ++page) drop(group, *page);
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
