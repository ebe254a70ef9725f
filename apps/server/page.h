#pragma once
// The chat page and /status: files of apps/server/page, which CMake writes into the program.
#include <span>
#include <string_view>

#include "server/http_message.h"

namespace tessera::server {

struct PageFile {
  std::string_view path;  // of a request
  std::string_view type;
  std::string_view tag;      // of its contents
  std::string_view text;     // as it is
  std::string_view gzipped;  // the same
};

std::span<const PageFile> page_files();

// nullptr: none is there.
const PageFile* find_page(std::string_view path);

// Compressed for who takes it; 304 for who has it. The page may load nothing but these files, and make no markup of text.
HttpResponse page_response(const PageFile& page, const HttpRequest& request);

}  // namespace tessera::server
