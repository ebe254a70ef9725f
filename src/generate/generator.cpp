#include "generate/generator.h"

#include <algorithm>

#include "core/error.h"

namespace tessera {
namespace {

int64_t known(const Sequence& sequence) { return static_cast<int64_t>(sequence.tokens.size()); }

}  // namespace

Generator::Generator(const Model& model, Device& device, Cache& cache, int64_t chunk)
    : model_(model), device_(device), cache_(cache), chunk_(chunk), limits_(device.limits()) {
  check(chunk >= 0, "batch size: ", chunk, " is negative");
  if (chunk_ == 0 || chunk_ > limits_.max_chunk) chunk_ = limits_.max_chunk;
  // Token by token, or in pieces after each of which another can start.
  if (chunk_ > limits_.decode_tokens) chunk_ = std::max(chunk_ - chunk_ % limits_.chunk_alignment, limits_.chunk_alignment);
}

void Generator::prepare(Request& request) {
  Sequence& sequence = *request.sequence;
  const int64_t context = model_.spec().max_position_embeddings;
  check(known(sequence) <= context, "sequence: ", known(sequence), " tokens do not fit the model's context of ", context,
        "; shorten the prompt");
  check(request.logit_rows >= 0 && request.logit_rows <= known(sequence), "sequence: the logits of ", request.logit_rows,
        " rows are wanted of ", known(sequence), " tokens");
  const auto boundary = model_.spec().recompute_after;
  const bool other_set = boundary && sequence.length() > 0 && (sequence.rope_length() > *boundary) != (known(sequence) > *boundary);
  cache_.rewind(sequence, other_set ? 0 : std::min(sequence.length(), known(sequence) - request.logit_rows));
}

// How many of a sequence's pending tokens the Batch being composed takes.
int64_t Generator::room_for(int64_t pending) const {
  const auto taken = static_cast<int64_t>(tokens_.size());
  const int64_t wanted = std::min({chunk_, pending, limits_.max_rows - taken});
  if (wanted > limits_.decode_tokens) return taken == 0 ? wanted : 0;  // alone
  return std::min(wanted, limits_.free_rows - taken);
}

// One Batch of as many slices as fit; false when nothing is left to do.
bool Generator::compose(std::span<Request> requests) {
  tokens_.clear();
  slices_.clear();
  slice_requests_.clear();
  int64_t logit_rows = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    if (!slices_.empty() && slices_.back().count > limits_.decode_tokens) break;  // alone in its Batch
    Request& request = requests[i];
    Sequence& sequence = *request.sequence;
    if (request.error || known(sequence) == sequence.length()) continue;
    // The position from which on logits are wanted, and were not given yet.
    const int64_t first_wanted = std::max(known(sequence) - request.logit_rows, sequence.length());
    if (std::min(chunk_, known(sequence) - sequence.length()) > limits_.decode_tokens) {
      if (!slices_.empty()) continue;
      cache_.rewind(sequence, sequence.length() / limits_.chunk_alignment * limits_.chunk_alignment);
    }
    const int64_t position = sequence.length(), pending = known(sequence) - position;
    int64_t count = room_for(pending);
    count = std::min(count, std::max<int64_t>(first_wanted - position, 0) + limits_.max_logit_rows - logit_rows);
    if (count < pending && count > limits_.chunk_alignment) count -= count % limits_.chunk_alignment;
    if (count <= 0) continue;
    try {
      cache_.reserve(sequence, position, count);
    } catch (const ResourceError&) {
      request.error = std::current_exception();
      continue;
    }
    const int64_t rows = std::clamp<int64_t>(position + count - first_wanted, 0, count);
    slices_.push_back({&sequence, static_cast<int64_t>(tokens_.size()), count, position, rows, known(sequence)});
    slice_requests_.push_back(i);
    tokens_.insert(tokens_.end(), sequence.tokens.begin() + position, sequence.tokens.begin() + position + count);
    logit_rows += rows;
  }
  return !slices_.empty();
}

void Generator::begin(std::span<Request> requests) {
  for (Request& request : requests) prepare(request);
}

// One Batch; false when nothing is left to do.
bool Generator::run(std::span<Request> requests) {
  made_ = Tensor();
  read_ = false;
  best_.clear();
  largest_ = TopK();
  if (!compose(requests)) return false;
  made_ = device_.run(model_, Batch{tokens_, slices_});
  for (const Batch::Slice& slice : slices_) cache_.drop_passed(*slice.sequence);
  return true;
}

void Generator::give_rows(const RowSink& sink) {
  size_t row = 0;
  for (size_t s = 0; s < slices_.size(); ++s)
    for (int64_t i = slices_[s].count - slices_[s].logit_rows; i < slices_[s].count; ++i)
      sink(slice_requests_[s], slices_[s].position + i, Row(*this, row++));
  made_ = Tensor();  // the next Batch may take its memory
}

bool Generator::step(std::span<Request> requests, const RowSink& sink) {
  if (!run(requests)) return false;
  give_rows(sink);
  return true;
}

void Generator::forward(std::span<Request> requests, const RowSink& sink, const Progress& progress) {
  begin(requests);
  int64_t done = 0, total = 0;
  for (const Request& request : requests) total += known(*request.sequence) - request.sequence->length();
  while (run(requests)) {
    done += static_cast<int64_t>(tokens_.size());
    if (progress) progress(done, total);
    give_rows(sink);
  }
}

int64_t Generator::room_behind(size_t known) const {
  const auto tokens = static_cast<int64_t>(known);
  int64_t end = std::min(model_.spec().max_position_embeddings, cache_.options().max_tokens);
  if (const auto boundary = model_.spec().recompute_after; boundary && tokens <= *boundary) end = std::min(end, *boundary);
  return end - tokens;
}

Generator::Row::operator std::span<const float>() const {
  std::vector<float>& logits = generator_.logits_;
  if (!generator_.read_) {
    logits.resize(static_cast<size_t>(volume(generator_.made_.shape())));
    generator_.device_.read(generator_.made_, logits);
    generator_.read_ = true;
  }
  const auto width = static_cast<size_t>(vocab());
  return std::span(logits).subspan(index_ * width, width);
}

TokenId Generator::Row::argmax() const {
  std::vector<TokenId>& best = generator_.best_;
  if (best.empty()) best = generator_.device_.argmax(generator_.made_);
  return best[index_];
}

TopK Generator::Row::topk(int64_t k) const {
  TopK& all = generator_.largest_;
  if (all.k < k) all = generator_.device_.topk(generator_.made_, k);
  const auto count = static_cast<size_t>(all.k), first = index_ * count;
  return {.k = all.k, .ids = {&all.ids[first], &all.ids[first] + count}, .values = {&all.values[first], &all.values[first] + count}};
}

}  // namespace tessera
