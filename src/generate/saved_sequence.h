#pragma once
// A sequence in a file of its own, so that another process goes on with it: its token ids, a text of its owner's, and its pages, so that
// nothing need be computed again.
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/kept_file.h"
#include "core/mapped_file.h"
#include "generate/cache.h"

namespace tessera {

// Whose pages they are: what must be the same, by name, for them to be used again ("weights": "bfloat16"). The device, its page_layout()
// and the cache's type belong to it in any case.
using PagesIdentity = std::vector<std::pair<std::string, std::string>>;

// The bytes that a sequence's pages take in a file.
size_t saved_page_bytes(const Device& device, const Sequence& sequence, const Cache& cache);

// Which pages a file holds: without any, all tokens are computed again.
enum class SavedPages { all, none };

// Writes the file whole or not at all; one that is there is replaced. `about` is handed back by whoever reads it. Throws FileError when the
// place cannot be written, ResourceError when the disk is full, std::invalid_argument when the device's pages cannot be read.
void save_sequence(const std::string& path, std::string_view about, const Device& device, const Sequence& sequence, const Cache& cache,
                   const PagesIdentity& identity, SavedPages pages);

class SavedSequence {
 public:
  // Throws FileError when the file is not save_sequence's, was cut, or is damaged elsewhere than in its pages.
  explicit SavedSequence(const std::string& path);

  const std::string& about() const { return about_; }
  const std::vector<TokenId>& tokens() const { return tokens_; }

  // Gives an empty sequence of `cache` the tokens and the pages. Where the pages cannot be used the sequence stays empty, and the words say
  // why: "were made otherwise: weights \"bfloat16\", now \"bfloat8_b\"". Empty words: they are used. Throws FileError if the file has
  // changed meanwhile: the sequence is of no use then.
  std::string restore(Device& device, Cache& cache, Sequence& sequence, const PagesIdentity& identity) const;

 private:
  std::string why_not(const PagesIdentity& now) const;

  std::unique_ptr<const MappedFile> file_;
  std::optional<KeptFile> found_;
  std::string about_;
  std::vector<TokenId> tokens_;
  PagesIdentity identity_;
  int64_t length_ = 0, rope_length_ = 0;  // of the pages
  std::vector<int64_t> first_pages_;      // of each group
};

}  // namespace tessera
