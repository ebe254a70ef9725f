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

// One Batch and its logits, if any are wanted; nullopt when nothing is left to do.
std::optional<Tensor> Generator::run(std::span<Request> requests) {
  if (!compose(requests)) return std::nullopt;
  const Batch batch{tokens_, slices_};
  Tensor logits = device_.run(model_, batch);
  for (const Batch::Slice& slice : slices_) cache_.drop_passed(*slice.sequence);
  return !logits || logits.shape()[2] == 0 ? Tensor() : logits;
}

std::span<const float> Generator::read(const Tensor& logits) {
  logits_.resize(static_cast<size_t>(volume(logits.shape())));
  device_.read(logits, logits_);
  return logits_;
}

bool Generator::step(std::span<Request> requests, const RowSink& sink) {
  const std::optional<Tensor> logits = run(requests);
  if (!logits) return false;
  if (!*logits) return true;
  const auto vocab = static_cast<size_t>(model_.spec().vocab_size);
  const std::span<const float> rows = read(*logits);
  size_t row = 0;
  for (size_t s = 0; s < slices_.size(); ++s)
    for (int64_t i = slices_[s].count - slices_[s].logit_rows; i < slices_[s].count; ++i, ++row)
      sink(slice_requests_[s], slices_[s].position + i, rows.subspan(row * vocab, vocab));
  return true;
}

void Generator::forward(std::span<Request> requests, const RowSink& sink, const Progress& progress) {
  begin(requests);
  int64_t done = 0, total = 0;
  for (const Request& request : requests) total += known(*request.sequence) - request.sequence->length();
  while (step(requests, sink)) {
    done += static_cast<int64_t>(tokens_.size());
    if (progress) progress(done, total);
  }
}

std::vector<float> Generator::forward(Sequence& sequence, const Progress& progress) {
  std::vector<float> last;
  Request request{&sequence, 1};
  forward(
      std::span(&request, 1), [&](size_t, int64_t, std::span<const float> logits) { last.assign(logits.begin(), logits.end()); }, progress);
  if (request.error) std::rethrow_exception(request.error);
  return last;
}

TokenId Generator::sample(Sequence& sequence, Sampler& sampler, size_t prompt, uint64_t sample) {
  Request request{&sequence, 1};
  begin(std::span(&request, 1));
  Tensor logits;
  while (const std::optional<Tensor> made = run(std::span(&request, 1))) logits = *made;
  if (request.error) std::rethrow_exception(request.error);
  const int64_t enough = sampler.enough(sequence.tokens.size() - prompt);
  if (enough == 1) return device_.argmax(logits).front();
  if (enough > 1 && enough <= model_.spec().vocab_size)
    if (const auto token = sampler.sample(device_.topk(logits, enough), sequence.tokens.size(), sample)) return *token;
  return sampler.sample(read(logits), sequence.tokens, prompt, sample);
}

}  // namespace tessera
