"""A 放号 rush on a sample HIS: very many patients, few numbers, one moment; and whether the books are right."""
