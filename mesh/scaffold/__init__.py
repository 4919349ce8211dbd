"""`authmesh new service`: the first files of a bounded context, and its lines in the files that name all of them."""
