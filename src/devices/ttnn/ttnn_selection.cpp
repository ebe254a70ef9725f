// The part of the n150's device that chooses among logits: what is read back is a few numbers a row.
#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "ttnn/ttnn_device.h"
#include "ttnn/ttnn_storage.h"

namespace tessera::ttnn {
namespace {

using namespace nb::literals;

constexpr int64_t kMostSorted = 64;  // by the card, whose kernel was run with no more on the simulated card

// Unsigned integers of 16 or 32 bits, in which TTNN counts.
TokenId id_at(std::span<const std::byte> bytes, size_t count, size_t index) {
  const size_t size = bytes.size() / count;
  check<std::logic_error>(size == 2 || size == 4, "n150: ", count, " ids in ", bytes.size(), " bytes");
  TokenId id = 0;
  std::memcpy(&id, bytes.data() + index * size, size);
  return id;
}

}  // namespace

// On this machine, of all logits.
TopK TtnnDevice::topk_here(const Tensor& logits, std::span<const int64_t> rows, int64_t k) {
  const int64_t vocab = logits.shape()[3];
  std::vector<float> all(static_cast<size_t>(volume(logits.shape())));
  read_rows(logits, rows, all);
  TopK largest;
  for (const int64_t row : rows) {
    const TopK of =
        tessera::topk(std::span<const float>(all).subspan(static_cast<size_t>(row * vocab), static_cast<size_t>(vocab)), vocab, k);
    largest.k = of.k;
    largest.ids.insert(largest.ids.end(), of.ids.begin(), of.ids.end());
    largest.values.insert(largest.values.end(), of.values.begin(), of.values.end());
  }
  return largest;
}

void TtnnDevice::read_rows(const Tensor& logits, std::span<const int64_t> rows, std::span<float> out) {
  std::vector<float> all(static_cast<size_t>(volume(logits.shape())));
  read(logits, all);
  const int64_t vocab = logits.shape()[3];
  for (const int64_t row : rows) std::copy_n(all.begin() + row * vocab, vocab, out.begin() + row * vocab);
}

std::vector<TokenId> TtnnDevice::argmax(const Tensor& logits, std::span<const int64_t> rows) {
  const auto turn = take_turn();
  const nb::gil_scoped_acquire gil;
  // Of rows many cores search pieces, of tiles one core all. Their kernels keep the first of equal values; not measured on silicon.
  const nb::object lines = (*ttnn_)("to_layout", tensor(logits), row_major_, "memory_config"_a = dram_);
  const auto [owner, bytes] = ttnn_->download((*ttnn_)("argmax", lines, "dim"_a = -1));
  std::vector<TokenId> ids;
  for (const int64_t row : rows)
    ids.push_back(id_at(bytes, bytes.size() / sizeof(uint32_t), static_cast<size_t>(storage(logits).row(row))));
  return ids;
}

TopK TtnnDevice::topk(const Tensor& logits, std::span<const int64_t> rows, int64_t k) {
  if (k > kMostSorted) return topk_here(logits, rows, k);
  const auto turn = take_turn();
  const nb::gil_scoped_acquire gil;
  const int64_t width = std::min(round_up(k, kTile), logits.shape()[3]);  // whole tiles are sorted anyway
  const nb::object found = (*ttnn_)("topk", tensor(logits), "k"_a = width, "dim"_a = -1);
  const auto download = [&](const nb::object& tensor) {
    return ttnn_->download((*ttnn_)("to_layout", tensor, row_major_, "memory_config"_a = dram_));
  };
  const auto [values_owner, values] = download(found[0]);
  const auto [ids_owner, ids] = download(found[1]);
  const StoredType type = logits.dtype() == DataType::float32 ? StoredType::float32 : StoredType::bfloat16;
  const size_t count = values.size() / bytes_of(type);
  TopK largest{.k = width, .ids = {}, .values = {}};
  for (const int64_t row : rows)
    for (int64_t i = storage(logits).row(row) * width; i < (storage(logits).row(row) + 1) * width; ++i) {
      largest.ids.push_back(id_at(ids, count, static_cast<size_t>(i)));
      largest.values.push_back(load_stored(type, values.data(), i));
    }
  return largest;
}

void TtnnDevice::parallel_for(int64_t pieces, const std::function<void(int64_t)>& run) {
  const auto turn = take_turn();
  pool_.parallel_for(pieces, [&](int64_t piece, int) { run(piece); });
}

}  // namespace tessera::ttnn
