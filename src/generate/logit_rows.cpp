#include "generate/logit_rows.h"

#include <algorithm>
#include <utility>

namespace tessera {

int64_t LogitRow::vocab() const { return rows_->vocab(); }

int64_t LogitRow::position() const { return rows_->place(index_).position; }

LogitRow::operator std::span<const float>() const {
  if (!rows_->read_[index_]) rows_->fetch_all(0);
  const auto width = static_cast<size_t>(vocab());
  return {rows_->buffer_->values.get() + index_ * width, width};
}

TokenId LogitRow::argmax() const {
  if (!rows_->best_[index_]) rows_->fetch_all(1);
  return *rows_->best_[index_];
}

TopK LogitRow::topk(int64_t k) const {
  if (rows_->largest_[index_].k < std::min(k, vocab())) rows_->fetch_all(k);
  return rows_->largest_[index_];
}

LogitRows::LogitRows(Device& device, Tensor logits, std::vector<Place> places, std::shared_ptr<Buffer> buffer)
    : device_(&device),
      logits_(std::move(logits)),
      places_(std::move(places)),
      vocab_(places_.empty() ? 0 : logits_.shape()[3]),
      buffer_(std::move(buffer)),
      best_(places_.size()),
      largest_(places_.size()),
      read_(places_.size()) {}

void LogitRows::fetch(std::span<const int64_t> enough) {
  std::vector<int64_t> greedy, top, all;
  int64_t k = 0;
  for (size_t row = 0; row < size(); ++row) {
    const auto index = static_cast<int64_t>(row);
    if (enough[row] == 1 && !best_[row]) greedy.push_back(index);
    if (enough[row] > 1 && largest_[row].k < std::min(enough[row], vocab_)) top.push_back(index);
    if (enough[row] == 0 && !read_[row]) all.push_back(index);
    k = std::max(k, enough[row]);
  }
  if (!greedy.empty()) {
    const std::vector<TokenId> ids = device_->argmax(logits_, greedy);
    for (size_t i = 0; i < greedy.size(); ++i) best_[static_cast<size_t>(greedy[i])] = ids[i];
  }
  if (!top.empty()) {
    const TopK found = device_->topk(logits_, top, k);
    for (size_t i = 0; i < top.size(); ++i) {
      const auto first = static_cast<std::ptrdiff_t>(i * static_cast<size_t>(found.k)), last = first + found.k;
      largest_[static_cast<size_t>(top[i])] = {.k = found.k,
                                               .ids = {found.ids.begin() + first, found.ids.begin() + last},
                                               .values = {found.values.begin() + first, found.values.begin() + last}};
    }
  }
  if (all.empty()) return;
  if (const size_t size = places_.size() * static_cast<size_t>(vocab_); buffer_->size < size)
    *buffer_ = {std::make_unique_for_overwrite<float[]>(size), size};
  device_->read_rows(logits_, all, {buffer_->values.get(), places_.size() * static_cast<size_t>(vocab_)});
  for (const int64_t row : all) read_[static_cast<size_t>(row)] = true;
}

}  // namespace tessera
