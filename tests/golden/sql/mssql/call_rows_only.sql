EXEC [THIS4]..[usp_gh_ghdj] @ksdm = ?, @ysdm = ?;
