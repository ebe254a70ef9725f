#include "cpu/attention.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <numbers>
#include <utility>

#include "core/error.h"
#include "cpu/kernels/attention_kernels.h"
#include "cpu/kernels/row_kernels.h"

namespace tessera::cpu {
namespace {

constexpr int64_t kBlockRows = 64;
// Slices of one block a key head are also split by ranges, unless there are more key heads than this to share out.
constexpr int64_t kFewHeads = 16;
// Unpacked pages are to stay in the first-level cache.
constexpr int64_t kUnpackedWords = 4096;
constexpr int64_t kRangePages = kRangeTokens / kPageTokens;

const AttentionKernels& kernels(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::avx512) return kAttentionAvx512;
  if (isa == Isa::avx2) return kAttentionAvx2;
#endif
  return kAttentionPlain;
}

// Up to 64 query rows of one slice and key head: row r is token r / group of the slice, query head r % group of the key head's.
struct Block {
  const CacheSlice* slice;
  int64_t kv_head;
  int64_t first_row, rows;
  int64_t first_range, last_range;  // ranges that some row sees: [first, last)
  int64_t partials = -1;            // where its first range's results are; -1: one piece does all ranges
};

struct Piece {
  int64_t block;
  int64_t range;  // -1: all of the block's
};

// Results of a block's rows: a running softmax.
struct Softmax {
  float* max;  // [rows]
  float* sum;  // [rows]
  float* acc;  // [rows][acc_stride]
};

struct Worker {
  std::vector<uint32_t> q, p, pairs, wide;
  std::vector<float> scores, running, next;
  std::vector<int32_t> begin, end;
};

}  // namespace

struct AttentionScratch {
  std::vector<Block> blocks;
  std::vector<Piece> pieces;
  std::vector<int32_t> waiting;  // of each block: ranges whose results are not there yet
  std::vector<float> partials;   // results of single ranges
  std::vector<Worker> workers;
};

namespace {

// One attend.
class Call {
 public:
  Call(Isa isa, const KvCache& cache, const ConstRows& q, const Rows& out, const AttentionOptions& options, AttentionScratch& scratch)
      : kernels_(kernels(isa)),
        cache_(cache),
        layer_(cache.layer(options.layer)),
        q_(q),
        out_(out),
        pairs_(q.type == DataType::bfloat16 && cache.type() != DataType::float32),
        unpacks_(cache.type() == DataType::bfloat8_b || (cache.type() == DataType::bfloat16 && !pairs_)),
        group_pages_(unpacks_ ? std::clamp<int64_t>(kUnpackedWords / (kPageTokens * q.width / (pairs_ ? 2 : 1)), 1, kGroupPages)
                              : kGroupPages),
        range_kernels_(pairs_ ? kernels_.bfloat16 : kernels_.float32),
        scale_(options.scale * std::numbers::log2e_v<float>),
        softcap_(options.softcap.value_or(0) / options.scale),
        cap_(row_kernels(isa).float32.softcap),
        window_(options.window.value_or(std::numeric_limits<int64_t>::max())),
        group_(q.heads / layer_.num_kv_heads),
        stride_((q.width + 15) / 16 * 16),
        scratch_(scratch) {}

  void plan(std::span<const CacheSlice> slices);
  void run(const Piece& piece, Worker& worker);

 private:
  int64_t position(const Block& block, int64_t row) const { return block.slice->position + (block.first_row + row) / group_; }
  // The token of the batch and the head that a block's row is.
  std::pair<int64_t, int64_t> query(const Block& block, int64_t row) const {
    const int64_t i = block.first_row + row;
    return {block.slice->first + i / group_, block.kv_head * group_ + i % group_};
  }
  int64_t first_key(int64_t position) const { return position < window_ ? 0 : position - window_ + 1; }
  int64_t result_floats(const Block& block) const { return block.rows * (stride_ + 2); }
  Softmax results(const Block& block, float* floats) const { return {floats, floats + block.rows, floats + 2 * block.rows}; }
  Softmax partial(const Block& block, int64_t range) const {
    return results(block, scratch_.partials.data() + block.partials + (range - block.first_range) * result_floats(block));
  }

  void prepare(Worker& worker) const;
  void load_queries(const Block& block, Worker& worker) const;
  const uint32_t* unpack(const std::byte* part, const std::byte* next, bool keys, int64_t index, Worker& worker) const;
  void widen(const uint32_t* pairs, bool keys, float* out) const;
  void attend_range(const Block& block, int64_t range, Worker& worker, const Softmax& result) const;
  PageGroup group(const Block& block, int64_t range, const KeyRange& task, int64_t i, Worker& worker) const;
  void merge(const Block& block, int64_t range, const Softmax& running, const Softmax& next) const;
  void finish(const Block& block, const Softmax& result) const;

  const AttentionKernels& kernels_;
  const KvCache& cache_;
  const KvCache::Layer& layer_;
  const ConstRows& q_;
  const Rows& out_;
  const bool pairs_;    // words are pairs of bfloat16
  const bool unpacks_;  // pages do not hold these words themselves
  const int64_t group_pages_;
  const RangeKernels& range_kernels_;
  const float scale_;
  const float softcap_;  // of the scores before they are scaled; 0: none
  void (*const cap_)(const float* x, float cap, int64_t n, float* y);
  const int64_t window_, group_, stride_;
  AttentionScratch& scratch_;
};

void Call::plan(std::span<const CacheSlice> slices) {
  scratch_.blocks.clear();
  scratch_.pieces.clear();
  int64_t partials = 0;
  for (const CacheSlice& slice : slices) {
    const int64_t rows = slice.count * group_, blocks = (rows + kBlockRows - 1) / kBlockRows;
    const bool split = blocks == 1 && layer_.num_kv_heads <= kFewHeads;
    for (int64_t b = blocks - 1; b >= 0; --b)  // the last ones see most keys: they come first
      for (int64_t head = 0; head < layer_.num_kv_heads; ++head) {
        Block block{&slice, head, b * kBlockRows, std::min(kBlockRows, rows - b * kBlockRows), 0, 0};
        block.first_range = first_key(position(block, 0)) / kRangeTokens;
        block.last_range = position(block, block.rows - 1) / kRangeTokens + 1;
        const auto index = static_cast<int64_t>(scratch_.blocks.size());
        if (split && block.last_range - block.first_range > 1) {
          block.partials = partials;
          partials += (block.last_range - block.first_range) * result_floats(block);
          for (int64_t range = block.first_range; range < block.last_range; ++range) scratch_.pieces.push_back({index, range});
        } else {
          scratch_.pieces.push_back({index, -1});
        }
        scratch_.blocks.push_back(block);
      }
  }
  scratch_.waiting.clear();
  for (const Block& block : scratch_.blocks) scratch_.waiting.push_back(static_cast<int32_t>(block.last_range - block.first_range));
  if (const auto floats = static_cast<size_t>(partials); scratch_.partials.size() < floats) scratch_.partials.resize(floats);
}

void Call::prepare(Worker& worker) const {
  worker.q.resize(static_cast<size_t>(kBlockRows * q_.width));
  worker.p.resize(static_cast<size_t>(kBlockRows * kRangeTokens));
  worker.scores.resize(static_cast<size_t>(kBlockRows * kRangeTokens));
  worker.pairs.resize(static_cast<size_t>(group_pages_ * kPageTokens / 2 * q_.width));
  worker.wide.resize(static_cast<size_t>(group_pages_ * kPageTokens * q_.width));
  worker.running.resize(static_cast<size_t>(kBlockRows * (stride_ + 2)));
  worker.next.resize(worker.running.size());
  worker.begin.resize(kBlockRows);
  worker.end.resize(kBlockRows);
}

void Call::run(const Piece& piece, Worker& worker) {
  prepare(worker);
  const Block& block = scratch_.blocks[static_cast<size_t>(piece.block)];
  load_queries(block, worker);
  if (piece.range >= 0) {
    attend_range(block, piece.range, worker, partial(block, piece.range));
    // Whoever brings the last result merges them all.
    if (std::atomic_ref(scratch_.waiting[static_cast<size_t>(piece.block)]).fetch_sub(1, std::memory_order_acq_rel) > 1) return;
  }
  const Softmax running = results(block, worker.running.data());
  std::fill_n(running.max, block.rows, -std::numeric_limits<float>::infinity());
  std::fill_n(running.sum, block.rows * (stride_ + 1), 0.0f);  // and acc
  for (int64_t range = block.first_range; range < block.last_range; ++range) {
    const Softmax next = piece.range >= 0 ? partial(block, range) : results(block, worker.next.data());
    if (piece.range < 0) attend_range(block, range, worker, next);
    merge(block, range, running, next);
  }
  finish(block, running);
}

void Call::load_queries(const Block& block, Worker& worker) const {
  const int64_t words = q_.width / range_kernels_.row_pack;
  for (int64_t row = 0; row < block.rows; ++row) {
    const auto [token, head] = query(block, row);
    uint32_t* to = worker.q.data() + row * words;
    if (q_.type == DataType::bfloat16 && range_kernels_.row_pack == 1)
      for (int64_t d = 0; d < words; ++d) to[d] = static_cast<uint32_t>(q_.row<uint16_t>(token, head)[d]) << 16;
    else if (q_.type == DataType::bfloat16)
      std::memcpy(to, q_.row<uint16_t>(token, head), static_cast<size_t>(words) * 4);
    else
      std::memcpy(to, q_.row<float>(token, head), static_cast<size_t>(words) * 4);
  }
}

// Keys or values of a page as the kernels' words, unpacked into place `index` of the worker's scratch; `next` is fetched meanwhile.
const uint32_t* Call::unpack(const std::byte* part, const std::byte* next, bool keys, int64_t index, Worker& worker) const {
  const auto* pairs = reinterpret_cast<const uint32_t*>(part);
  if (cache_.type() == DataType::bfloat8_b) {
    uint32_t* to = worker.pairs.data() + index * kPageTokens / 2 * q_.width;
    (keys ? kernels_.unpack_keys : kernels_.unpack_values)(reinterpret_cast<const uint8_t*>(part), q_.width, to, next);
    pairs = to;
  }
  if (pairs_) return pairs;
  uint32_t* to = worker.wide.data() + index * kPageTokens * q_.width;
  widen(pairs, keys, reinterpret_cast<float*>(to));
  return to;
}

void Call::widen(const uint32_t* pairs, bool keys, float* out) const {
  if (keys) return kernels_.widen(pairs, q_.width / 2, kPageTokens, out);
  for (int64_t column = 0; column < q_.width; column += kColumn)
    kernels_.widen(pairs + column * kPageTokens / 2, kPageTokens / 2, std::min(kColumn, q_.width - column), out + column * kPageTokens);
}

void Call::attend_range(const Block& block, int64_t range, Worker& worker, const Softmax& result) const {
  const int64_t start = range * kRangeTokens;
  int64_t first = kRangeTokens, last = 0;
  for (int64_t row = 0; row < block.rows; ++row) {
    const int64_t at = position(block, row), begin = std::clamp<int64_t>(first_key(at) - start, 0, kRangeTokens);
    const int64_t end = std::max(begin, std::clamp<int64_t>(at + 1 - start, 0, kRangeTokens));
    worker.begin[static_cast<size_t>(row)] = static_cast<int32_t>(begin);
    worker.end[static_cast<size_t>(row)] = static_cast<int32_t>(end);
    if (begin == end) continue;
    first = std::min(first, begin);
    last = std::max(last, end);
  }
  const KeyRange task{.rows = block.rows,
                      .head_dim = q_.width,
                      .q = worker.q.data(),
                      .begin = worker.begin.data(),
                      .end = worker.end.data(),
                      .first_page = first / kPageTokens,
                      .last_page = (last + kPageTokens - 1) / kPageTokens,
                      .scale = scale_,
                      .scores = worker.scores.data(),
                      .p = worker.p.data(),
                      .max = result.max,
                      .sum = result.sum,
                      .acc = result.acc,
                      .acc_stride = stride_};
  const int64_t pages = task.last_page - task.first_page;
  for (int64_t i = 0; i < pages; i += group_pages_) range_kernels_.scores(task, group(block, range, task, i, worker));
  if (softcap_ > 0)
    for (int64_t row = 0; row < block.rows; ++row) {
      float* const scores = task.scores + row * kRangeTokens + task.first_page * kPageTokens;
      cap_(scores, softcap_, pages * kPageTokens, scores);
    }
  range_kernels_.softmax(task);
  std::fill_n(result.acc, block.rows * stride_, 0.0f);
  for (int64_t i = pages; i < 2 * pages; i += group_pages_) range_kernels_.accumulate(task, group(block, range, task, i, worker));
}

// Some pages from the i-th part on of all that a range reads: first its keys, then its values.
PageGroup Call::group(const Block& block, int64_t range, const KeyRange& task, int64_t i, Worker& worker) const {
  const int64_t pages = task.last_page - task.first_page;
  const bool keys = i < pages;
  const auto part = [&](int64_t at) -> const std::byte* {
    if (at >= 2 * pages) return nullptr;
    const int64_t page = range * kRangePages + task.first_page + at % pages;
    const int32_t number = block.slice->table->pages[static_cast<size_t>(page - block.slice->table->first)];
    return at < pages ? cache_.keys(layer_, number, block.kv_head) : cache_.values(layer_, number, block.kv_head);
  };
  PageGroup group{task.first_page + i % pages, std::min(group_pages_, (keys ? pages : 2 * pages) - i), {}, {}};
  for (int64_t j = 0; j < group.count; ++j) {
    const std::byte* next = part(i + j + group_pages_);
    if (unpacks_) {
      group.words[j] = unpack(part(i + j), next, keys, j, worker);
    } else {
      group.words[j] = reinterpret_cast<const uint32_t*>(part(i + j));
      group.next[j] = next;
    }
  }
  return group;
}

void Call::merge(const Block& block, int64_t range, const Softmax& running, const Softmax& next) const {
  for (int64_t row = 0; row < block.rows; ++row) {
    const int64_t at = position(block, row);
    if (at < range * kRangeTokens || first_key(at) >= (range + 1) * kRangeTokens) continue;  // it sees none of these keys
    kernels_.merge(running.max + row, running.sum + row, running.acc + row * stride_, next.max[row], next.sum[row],
                   next.acc + row * stride_, stride_);
  }
}

void Call::finish(const Block& block, const Softmax& result) const {
  for (int64_t row = 0; row < block.rows; ++row) {
    const auto [token, head] = query(block, row);
    const float* acc = result.acc + row * stride_;
    if (out_.type == DataType::float32)
      kernels_.finish_float32(acc, result.sum[row], q_.width, out_.row<float>(token, head));
    else
      kernels_.finish_bfloat16(acc, result.sum[row], q_.width, out_.row<uint16_t>(token, head));
  }
}

void check_shapes(const KvCache::Layer& layer, std::span<const CacheSlice> slices, const ConstRows& q, const Rows& out,
                  const AttentionOptions& options) {
  check(q.type == out.type && (q.type == DataType::float32 || q.type == DataType::bfloat16), "attention: queries ", q.type, " and output ",
        out.type, " must both be float32 or bfloat16");
  check(q.tokens == out.tokens && q.heads == out.heads && q.width == out.width, "attention: output [", out.tokens, ", ", out.heads, ", ",
        out.width, "] differs from the queries' [", q.tokens, ", ", q.heads, ", ", q.width, "]");
  check(q.width == layer.head_dim && q.heads % layer.num_kv_heads == 0 && q.heads > 0, "attention: ", q.heads, " query heads of ", q.width,
        " do not fit ", layer.num_kv_heads, " key heads of ", layer.head_dim);
  check(options.scale > 0, "attention: a scale of ", options.scale);
  check(!options.window || *options.window >= 1, "attention: a window of ", options.window.value_or(0), " keys");
  check(!options.softcap || *options.softcap > 0, "attention: a softcap of ", options.softcap.value_or(0));
  for (const CacheSlice& slice : slices) {
    check(slice.first >= 0 && slice.count >= 1 && slice.position >= 0 && slice.first + slice.count <= q.tokens, "attention: slice [",
          slice.first, ", ", slice.first + slice.count, ") at position ", slice.position, " does not lie in a batch of ", q.tokens,
          " tokens");
    const int64_t last = slice.position + slice.count - 1;
    const int64_t first = options.window ? std::max<int64_t>(0, slice.position - *options.window + 1) : 0;
    for (int64_t page = first / kPageTokens; page <= last / kPageTokens; ++page) page_at(*slice.table, page * kPageTokens, layer.pages);
  }
}

}  // namespace

Attention::Attention(ThreadPool& pool, Isa isa) : pool_(pool), isa_(isa), scratch_(std::make_unique<AttentionScratch>()) {
  scratch_->workers.resize(static_cast<size_t>(pool.size()));
}

Attention::~Attention() = default;

void Attention::attend(const KvCache& cache, std::span<const CacheSlice> slices, const ConstRows& q, const Rows& out,
                       const AttentionOptions& options) {
  check_shapes(cache.layer(options.layer), slices, q, out, options);
  Call call(isa_, cache, q, out, options, *scratch_);
  call.plan(slices);
  pool_.parallel_for(static_cast<int64_t>(scratch_->pieces.size()), [&](int64_t piece, int worker) {
    call.run(scratch_->pieces[static_cast<size_t>(piece)], scratch_->workers[static_cast<size_t>(worker)]);
  });
}

}  // namespace tessera::cpu
