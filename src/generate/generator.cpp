#include "generate/generator.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace tessera {
namespace {

int64_t known(const Sequence& sequence) { return static_cast<int64_t>(sequence.tokens.size()); }

}  // namespace

Generator::Generator(const Model& model, Device& device, Cache& cache, int64_t chunk)
    : model_(model),
      device_(device),
      cache_(cache),
      chunk_(chunk),
      limits_(device.limits()),
      buffer_(std::make_shared<LogitRows::Buffer>()) {
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
  if (sequence.length() == 0) cache_.adopt(sequence, known(sequence) - std::max<int64_t>(1, request.logit_rows), rope_set(known(sequence)));
  const int64_t settled = std::min(known(sequence), request.settled);
  if (settled > sequence.length() + 1) cache_.mark(sequence, settled);
}

int Generator::rope_set(int64_t known) const {
  const auto boundary = model_.spec().recompute_after;
  return boundary && known > *boundary ? 1 : 0;
}

// How many of a sequence's pending tokens the Batch being composed takes.
int64_t Generator::room_for(const Request& request, int64_t pending) const {
  const auto taken = static_cast<int64_t>(tokens_.size());
  const int64_t share = pending > limits_.decode_tokens ? std::max(request.share, limits_.chunk_alignment) : request.share;
  const int64_t wanted = std::min({chunk_, share, pending, limits_.max_rows - taken});
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
    if (request.error || request.share == 0 || known(sequence) == sequence.length()) continue;
    // The position from which on logits are wanted, and were not given yet.
    const int64_t first_wanted = std::max(known(sequence) - request.logit_rows, sequence.length());
    if (std::min(chunk_, known(sequence) - sequence.length()) > limits_.decode_tokens) {
      if (!slices_.empty()) continue;
      cache_.rewind(sequence, sequence.length() / limits_.chunk_alignment * limits_.chunk_alignment);
    }
    const int64_t position = sequence.length(), pending = known(sequence) - position;
    int64_t count = room_for(request, pending);
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

std::optional<LogitRows> Generator::step(std::span<Request> requests) {
  if (!compose(requests)) return std::nullopt;
  Tensor logits = device_.run(model_, Batch{tokens_, slices_});
  for (size_t s = 0; s < slices_.size(); ++s)
    cache_.advance(*slices_[s].sequence, requests[slice_requests_[s]].settled, rope_set(slices_[s].rope_length));
  std::vector<LogitRows::Place> places;
  for (size_t s = 0; s < slices_.size(); ++s)
    for (int64_t i = slices_[s].count - slices_[s].logit_rows; i < slices_[s].count; ++i)
      places.push_back({slice_requests_[s], slices_[s].position + i});
  return LogitRows(device_, std::move(logits), std::move(places), buffer_);
}

void Generator::forward(std::span<Request> requests, const RowSink& sink, const Progress& progress) {
  const auto each = [&](LogitRows& rows) {
    for (size_t row = 0; row < rows.size(); ++row) sink(rows.place(row).request, rows.place(row).position, rows[row]);
  };
  forward_rows(requests, each, progress);
}

void Generator::forward_rows(std::span<Request> requests, const RowsSink& sink, const Progress& progress) {
  begin(requests);
  int64_t done = 0, total = 0;
  for (const Request& request : requests) total += known(*request.sequence) - request.sequence->length();
  while (std::optional<LogitRows> rows = step(requests)) {
    done += static_cast<int64_t>(tokens_.size());
    if (progress) progress(done, total);
    if (rows->size() > 0) sink(*rows);
  }
}

int64_t Generator::room_behind(size_t known) const {
  const auto tokens = static_cast<int64_t>(known);
  int64_t end = std::min(model_.spec().max_position_embeddings, cache_.options().max_tokens);
  if (const auto boundary = model_.spec().recompute_after; boundary && tokens <= *boundary) end = std::min(end, *boundary);
  return end - tokens;
}

}  // namespace tessera
