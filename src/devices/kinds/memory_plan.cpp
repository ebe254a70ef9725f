#include "kinds/memory_plan.h"

#include <algorithm>
#include <limits>

#include "core/error.h"

namespace tessera {
namespace {

constexpr int64_t kMostSequences = 4096;  // of a cache that is made for as many as there is room for

// The largest number in [1, most] for which `fits` holds, if it holds for all below it; 0: for none.
template <class Fits>
int64_t largest(int64_t most, const Fits& fits) {
  int64_t low = 0, high = most + 1;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return low;
}

// Where `change` differs from `load`.
std::string words(const Load& change, const Load& load) {
  if (change.context != load.context) return message("a context of ", change.context, " tokens");
  if (change.sequences != load.sequences) return message("no more than ", change.sequences, " sequences");
  if (change.weights == load.weights) return message("a ", change.cache, " cache");
  return message(change.weights, change.cache != load.cache ? " weights and cache" : " weights");
}

}  // namespace

size_t weight_bytes(const DeviceKind& kind, const ModelDescription& model, DataType weights) {
  size_t bytes = 0;
  for (const ModelDescription::Weight& weight : model.weights) {
    WeightSpec spec = weight.spec;
    spec.options.weights = weights;
    bytes += kind.weight_bytes(spec, weight.exact);
  }
  return bytes;
}

size_t cache_bytes(const DeviceKind& kind, const CacheSpec& spec, DataType dtype, int64_t context, int64_t sequences) {
  return kind.cache_bytes(spec, dtype, page_counts(spec, cache_options(dtype, context, sequences, kind.limits), kind.limits));
}

Load MemoryPlan::load(const Precision& precision, int64_t context, int64_t sequences, bool traced) const {
  const ModelOptions types = resolve(precision, model.stored);
  const int64_t longest = model.spec.max_position_embeddings;
  check(context <= longest, "a context of ", context, " tokens: the model's ends at ", longest);
  Load load{types.weights, types.activations, types.cache, context, sequences, traced};
  if (context == 0) load.context = std::max<int64_t>(longest_context(load), 1);
  return load;
}

Need MemoryPlan::need(const Load& load) const {
  kind.check_model(model);
  kind.check_load(load);
  int64_t widest = 0;
  for (const ModelDescription::Weight& weight : model.weights) widest = std::max(widest, alive_values(weight.spec));
  return {.weights = weight_bytes(kind, model, load.weights),
          .cache = cache_bytes(kind, model.spec.cache, load.cache, load.context, load.sequences),
          .working = kind.working_bytes(load, widest, model.spec.vocab_size)};
}

int64_t MemoryPlan::longest_context(Load load) const {
  const int64_t page = kind.limits.page_tokens, most = std::min(model.spec.max_position_embeddings, kLongestContext);
  const auto context = [&](int64_t count) { return std::min(count * page, most); };
  return context(largest((most + page - 1) / page, [&](int64_t count) {
    load.context = context(count);
    return fits(load);
  }));
}

int64_t MemoryPlan::most_sequences(Load load) const {
  return largest(load.sequences, [&](int64_t count) {
    load.sequences = count;
    return fits(load);
  });
}

std::vector<Load> MemoryPlan::changes(const Load& load) const {
  std::vector<Load> all;
  const auto types = [&](DataType weights, DataType cache) {
    Load other = load;
    other.weights = weights;
    other.cache = cache;
    const bool helps = (weights != load.weights || cache != load.cache) && fits(other);
    if (helps) all.push_back(other);
    return helps;
  };
  constexpr DataType kBlocks = DataType::bfloat8_b;
  const DataType weights = load.weights == DataType::bfloat4_b ? load.weights : kBlocks;
  const bool cache_alone = types(load.weights, kBlocks), weights_alone = types(weights, load.cache);
  if (!cache_alone && !weights_alone && weights != load.weights && load.cache != kBlocks) types(weights, kBlocks);
  Load shorter = load, fewer = load;
  if ((shorter.context = longest_context(load)) > 0) all.push_back(shorter);
  if ((fewer.sequences = most_sequences(load)) > 0) all.push_back(fewer);
  return all;
}

void MemoryPlan::expect_fits(const Load& load, const std::string& what) const {
  const size_t total = need(load).total();
  if (total <= memory.bytes) return;
  std::string others;
  for (const Load& change : changes(load)) others += (others.empty() ? "" : ", or ") + words(change, load);
  fail<ResourceError>(what, ": ", load.weights, " weights and a ", load.cache, " cache of ", load.sequences, " x ", load.context,
                      " tokens do not fit the ", kind.name, ": ", size_text(total), " of ", size_text(memory), "; ",
                      others.empty() ? "nothing makes it fit" : "it fits with " + others);
}

CacheOptions MemoryPlan::shared_cache(const Load& load, size_t bytes) const {
  const Need all = need(load);
  const size_t beside = all.weights + all.working, left = memory.bytes - std::min(memory.bytes, beside);
  check<ResourceError>(bytes <= left, "a cache of ", size_text(bytes), " does not fit the ", kind.name, ": beside the model's ",
                       size_text(beside), " there are ", size_text(left), " of ", size_text(memory));
  const size_t room = bytes > 0 ? bytes : left;
  const size_t least = shared_bytes(load, load.context);
  check<ResourceError>(least <= room, "a ", load.cache, " cache for ", load.sequences, load.sequences == 1 ? " sequence" : " sequences",
                       " of up to ", load.context, " tokens takes at least ", size_text(least), "; there are ", size_text(room),
                       ". Choose a shorter context", load.sequences > 1 ? " or fewer sequences" : "");
  const int64_t numbered = (std::numeric_limits<int32_t>::max() - load.sequences) * kind.limits.page_tokens;
  const int64_t most =
      largest(std::min(load.sequences * load.context, numbered), [&](int64_t tokens) { return shared_bytes(load, tokens) <= room; });
  return {.dtype = load.cache, .max_tokens = most, .max_sequences = load.sequences};
}

int64_t MemoryPlan::most_sharing(const Load& load, size_t bytes) const {
  return largest(load.sequences, [&](int64_t count) {
    Load fewer = load;
    fewer.sequences = count;
    const Need all = need(fewer);
    const size_t beside = all.weights + all.working, least = shared_bytes(fewer, fewer.context);
    return bytes > 0 ? least <= bytes : beside + least <= memory.bytes;
  });
}

size_t MemoryPlan::shared_bytes(const Load& load, int64_t tokens) const {
  const CacheOptions options{.dtype = load.cache, .max_tokens = tokens, .max_sequences = load.sequences};
  return kind.cache_bytes(model.spec.cache, load.cache, page_counts(model.spec.cache, options, kind.limits));
}

CacheOptions largest_cache(const DeviceKind& kind, const Memory& memory, const CacheSpec& spec, DataType dtype, int64_t context) {
  const auto bytes = [&](int64_t tokens, int64_t sequences) {
    return kind.cache_bytes(spec, dtype,
                            page_counts(spec, {.dtype = dtype, .max_tokens = tokens, .max_sequences = sequences}, kind.limits));
  };
  const size_t one = bytes(context, 1);
  check<ResourceError>(one <= memory.bytes, "a ", dtype, " cache of ", context, " tokens does not fit the ", kind.name, ": ",
                       size_text(one), " of ", size_text(memory), "; choose fewer tokens",
                       dtype == DataType::bfloat8_b ? "" : " or a cache of bfloat8_b");
  int64_t window = 0;  // the longest of those shorter than the context
  for (const CacheLayer& layer : spec.layers)
    if (layer.window.value_or(context) < context) window = std::max(window, *layer.window);
  const size_t share = std::min(memory.bytes, one + memory.bytes / (window > 0 ? 2 : 16));
  CacheOptions options{.dtype = dtype};
  options.max_sequences = largest(kMostSequences, [&](int64_t count) { return bytes(context + (count - 1) * window, count) <= share; });
  const int64_t numbered = (std::numeric_limits<int32_t>::max() - options.max_sequences) * kind.limits.page_tokens;
  options.max_tokens = largest(std::min(context * options.max_sequences, numbered),
                               [&](int64_t tokens) { return bytes(tokens, options.max_sequences) <= memory.bytes; });
  return options;
}

}  // namespace tessera
